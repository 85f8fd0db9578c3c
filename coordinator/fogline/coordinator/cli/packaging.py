"""`coord package`: build contexts in folders, images of them, and those in a registry; without any coordinator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fogline.coordinator.artifacts import engine
from fogline.coordinator.artifacts.packages import Kind, Package, write_packages
from fogline.coordinator.artifacts.sharing import incompatible
from fogline.coordinator.artifacts.targets import read_target, this_machine
from fogline.coordinator.cli import output
from fogline.coordinator.cli.documents import Ready, read
from fogline.coordinator.cli.images import require_own_architecture
from fogline.coordinator.cli.options import BaseImageOption, FilesArgument, OutputOption, SetOption, UpgradeOption
from fogline.coordinator.cli.output import Output, teller
from fogline.coordinator.cli.uploading import shown_size
from fogline.coordinator.core.imagined import imagined

OWN_PREFIX = "fogline"
"""Of images that are not pushed."""


def package(  # noqa: PLR0913  # one for each option
    files: FilesArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the contexts: one folder in it for each segment.")
    ],
    settings: SetOption = None,
    target: Annotated[
        str, typer.Option(metavar="TARGET", help="Kind of node, such as 3.11-aarch64-glibc-2.36; else this machine's.")
    ] = "",
    base_image: BaseImageOption = "",
    build: Annotated[bool, typer.Option("--build", help="Build an image of each, with this machine's engine.")] = False,
    push: Annotated[str, typer.Option(metavar="REGISTRY/PREFIX", help="Build the images and push them there.")] = "",
    upgrade: UpgradeOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Write what the image of each segment is built from.

    DIR/SEGMENT holds a Dockerfile, the lock with its wheels, code and models, and of Fogline what the segment uses: a
    plain `docker build` makes the image of it, without any network. The document alone says what the segments are; no
    coordinator is asked. Equal documents give equal digests.

    Example: coord package pipeline.json --out images
    """
    kind = Kind(target or this_machine(), base_image)
    read_target(kind.target)
    if build or push:
        require_own_architecture(kind.target)
    ready, tell = read(files, settings), teller(output_)
    output.say_problems(ready.warnings)
    parts = imagined(ready.document, incompatible(ready.document, ready.resolved.paths))
    packages = write_packages(parts, ready.resolved, out, kind, tell, anew=upgrade)
    rows = [_row(each) for each in packages]
    for each, row in zip(packages, rows, strict=True) if build or push else ():
        row |= _built(ready, each, kind, push, tell)
    if output_ is Output.JSON:
        output.print_json(rows)
    else:
        output.print_table([key.upper() for key in rows[0]], [_shown(row) for row in rows])


def _row(made: Package) -> dict[str, Any]:
    sizes = [path.stat().st_size for path in made.folder.rglob("*") if path.is_file()]
    digest = made.written.context.digest
    row = {"segment": made.segment.name, "context": str(made.folder), "files": len(sizes), "bytes": sum(sizes)}
    return row | {"digest": digest}


def _built(ready: Ready, made: Package, kind: Kind, push: str, tell: engine.Tell) -> dict[str, Any]:
    """Build one, push it if it is to be; returns what is told of it. Raises FoglineError."""
    name = engine.name_of(push or OWN_PREFIX, ready.document.id, made.segment.name)
    tag = made.written.context.digest[: engine.TAG_LENGTH]
    tell(f"building {name}")
    began_s = time.monotonic()
    engine.build(made.folder, kind.begins_with, f"{name}:{tag}", tell)
    row = {"image": f"{name}:{tag}", "image_bytes": engine.size_bytes(f"{name}:{tag}")}
    row |= {"build_s": round(time.monotonic() - began_s, 1)}
    if push:
        tell(f"pushing {name}")
        row["pushed"] = engine.push(name, tag, ready.document.registry_secret, tell)
    return row


def _shown(row: dict[str, Any]) -> list[object]:
    shown = {key: shown_size(value) for key, value in row.items() if key.endswith("bytes")}
    return list((row | shown | {"digest": row["digest"][:16]}).values())
