"""A pipeline to begin with: new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fogline.wire.terms import NAME, NAME_RULE, ErrorKind, FoglineError

_STARTER = Path(__file__).parent.parent / "starter"
_FILES = (
    "pipeline.json",
    "handler/main.py",
    "handler/requirements.txt",
    "sample.jsonl",
    "expected.jsonl",
    "README.md",
)
_PLACEHOLDER = "NAME"


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the folder, and id of the pipeline.")],
) -> None:
    """Make a folder with a pipeline to begin with.

    A document, a handler, records to try it on and those that must come out; then prints what to do next.

    Example: coord new plant
    """
    if not NAME.fullmatch(name):
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"{name!r} cannot name a pipeline; allowed: {NAME_RULE}")
    folder = Path(name)
    try:
        folder.mkdir()
    except FileExistsError:
        sentence = f"{name} is there already: choose another name, or remove it"
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence) from None
    except OSError as failure:
        sentence = f"no folder {name} can be made here: {failure.strerror}"
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence) from failure
    for file in _FILES:
        target = folder / file
        target.parent.mkdir(exist_ok=True)
        target.write_text((_STARTER / file).read_text().replace(_PLACEHOLDER, name))
    print(f"{name} holds a pipeline; {name}/README.md explains it. Next:")
    print(f"  coord test {name}/pipeline.json --input {name}/sample.jsonl --expect {name}/expected.jsonl")
    print(f"  coord run {name}/pipeline.json")
