"""`coord export compose`: a folder that runs a pipeline without any coordinator."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fogline.coordinator.artifacts.packages import Kind, write_packages
from fogline.coordinator.artifacts.sharing import incompatible
from fogline.coordinator.artifacts.targets import this_machine
from fogline.coordinator.cli import output
from fogline.coordinator.cli.documents import UNPLACEABLE, errors, read
from fogline.coordinator.cli.options import BaseImageOption, FilesArgument, SetOption, UpgradeOption
from fogline.coordinator.core.composing import Service, compose_file, on_one_machine, services
from fogline.coordinator.padl.yaml_text import yaml_of
from fogline.runtimes.container import recipe
from fogline.wire.terms import ErrorKind, FoglineError

FILE = "docker-compose.yml"
_ABOUT = """\
Pipeline {pipeline} on one machine, without any coordinator. In this folder:

    docker-compose up --detach          docker-compose logs --follow          docker-compose down
    docker-compose exec {service} {letters}

Images are built here, without any network, on {base}, which must be in the engine. What must
outlast containers is in state/: how far files are read, dead letters, what made a process die.

Its readers are called fogline.compose.{pipeline}...: they take nothing from a deployment of the same
pipeline, and read on where they stopped when it is exported anew. Bring it up in one place at a time: two would
take each other's records. Export a second one under another id (--set id=NAME). What brokers keep for these
readers stays there after `down`.

Only a coordinator has: rollouts and rollback, other machines, status, tap, predict, replay of dead letters.
Brokers are not in here: those that the document names must be reached from this machine.
"""


class Kinds(StrEnum):
    """What a pipeline can be exported as."""

    COMPOSE = "compose"


def export(
    kind: Annotated[Kinds, typer.Argument(help="What as: a folder for docker-compose.")],
    files: FilesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder that is written.")] = Path("compose"),
    settings: SetOption = None,
    base_image: BaseImageOption = "",
    upgrade: UpgradeOption = False,
) -> None:
    """Write a folder that runs a pipeline on one machine without any coordinator.

    Every machine of the document is the one where the folder is brought up, every segment a container. The file
    itself says what to do, and what only a coordinator can. No coordinator is asked.

    Example: coord export compose pipeline.json --out plant && docker-compose -f plant/docker-compose.yml up
    """
    assert kind is Kinds.COMPOSE
    ready = read(files, settings, here=True)
    output.say_problems(ready.warnings)
    parts, found = on_one_machine(ready.document, incompatible(ready.document, ready.resolved.paths))
    problems = ready.loaded.placed(found)
    output.say_problems(problems)
    if errors(problems):
        raise typer.Exit(UNPLACEABLE)
    if (out / FILE).exists():
        raise FoglineError(ErrorKind.CONFLICT, f"{out / FILE} is there already: remove it, or name another folder")
    image = Kind(this_machine(), base_image)
    packages = write_packages(parts, ready.resolved, out, image, output.say, anew=upgrade)
    locks = {each.segment.name: each.lock.digest for each in packages}
    made = list(services(parts, ready.resolved.artifacts, locks))
    _write(out, made, image.begins_with)
    output.print_table(["SERVICE", "STAGES"], [(each.name, _stages(each)) for each in made])
    output.say(f"docker-compose --file {out / FILE} up")


def _stages(made: Service) -> str:
    return " -> ".join(stage.name for stage in made.spec.stages)


def _write(out: Path, made: list[Service], base: str) -> None:
    """Raises FoglineError."""
    uid, gid = (os.geteuid(), os.getegid()) if os.geteuid() else (recipe.NOBODY, recipe.NOBODY)
    secrets = sorted({name for each in made for name in recipe.secrets(each.spec)})
    try:
        (out / "specs").mkdir(exist_ok=True)
        for each in made:
            (out / "specs" / f"{each.name}.json").write_bytes(each.spec.to_bytes())
        kept = [*(each.name for each in made), "dead-letters", "positions"]
        for folder in [out / "state" / name for name in kept] + [out / "secrets"] * bool(secrets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.geteuid() == 0:
                os.chown(folder, uid, gid)
        document = compose_file(made, f"{uid}:{gid}")
        (out / FILE).write_text(_about(made, base, secrets, uid) + yaml_of(document))
    except OSError as error:
        raise FoglineError(ErrorKind.FAILED, f"{out} cannot be written: {error.strerror or error}") from error


def _about(made: list[Service], base: str, secrets: list[str], uid: int) -> str:
    """What a reader of the file must know, as comments."""
    letters = f"{' '.join(recipe.RUNTIME)} dead-letters {recipe.LETTERS}/{made[0].spec.pipeline}.db list"
    text = _ABOUT.format(pipeline=made[0].spec.pipeline, service=made[0].name, letters=letters, base=base)
    if ports := [str(each.spec.serving.port) for each in made if each.spec.serving]:
        text += f"\nIt answers requests: ports {', '.join(ports)} of this machine must be free.\n"
    if secrets:
        text += f"\nYou write, with mode 0600 and owner {uid}: {', '.join(f'secrets/{name}' for name in secrets)}.\n"
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
