"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fogline.coordinator.cli.output import Output

DEFAULT_ADDRESS = "127.0.0.1:7700"

CoordinatorOption = Annotated[
    str,
    typer.Option(
        "--coordinator", metavar="HOST:PORT", envvar="FOGLINE_COORDINATOR", help="The coordinator to talk to."
    ),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Accept an address beyond loopback although there is no TLS yet.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Tables for people or JSON for tools.")]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="PADL documents (JSON or YAML), later ones laid over earlier ones."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.KEY=VALUE",
        help="Change one value, such as queues.q1.props.port=18831; may be repeated. VALUE is JSON, else plain text.",
    ),
]
UpgradeOption = Annotated[
    bool,
    typer.Option(
        "--upgrade",
        help="Resolve packages anew, to their newest versions, instead of keeping those that were resolved.",
    ),
]
BaseImageOption = Annotated[
    str,
    typer.Option(
        "--base-image",
        metavar="IMAGE",
        envvar="FOGLINE_BASE_IMAGE",
        help="What images of segments begin with: one with Python; the default is fogline/python:MINOR.",
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="HOST/PATH",
        help="Build images here and push them there, instead of having nodes build: registry.prefix of the document.",
    ),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Pipeline id, or the beginning of one.")]
