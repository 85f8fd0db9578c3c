"""The submitter's own container engine: it builds contexts that are laid out, and pushes what it has built."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fogline.runtimes.container.context import pack
from fogline.runtimes.spec import SECRETS_VARIABLE
from fogline.wire.terms import ErrorKind, FoglineError

if TYPE_CHECKING:
    from fogline.runtimes.container.images import Images

Tell = Callable[[str], None]
TELL_S = 2.0
"""A build, push or pull is told of no more often than this."""
TAG_LENGTH = 16
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


def build(folder: Path, base: str, tag: str, tell: Tell) -> str:
    """The id of the image made from a laid out context, which begins with `base`. Raises FoglineError."""
    files: dict[str, bytes | Path] = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    with _engine() as engine, tempfile.TemporaryFile() as packed:
        if "." not in base.split("/")[0] and ":" not in base.split("/")[0] and not engine.image(base):
            sentence = f"the image {base}, which others are built on, is not in this machine's container engine: "
            raise FoglineError(ErrorKind.FAILED, f"{sentence}docker load or import it, or name another by --base-image")
        pack(files, packed)
        packed.seek(0)
        return engine.build(packed, tag, tell=seldom(tell))


def push(repository: str, tag: str, secret: str, tell: Tell) -> str:
    """Push an image that was built as `repository:tag`; returns its name by digest. Raises FoglineError.

    `secret` names the login in the folder of secrets, where there is one; else the engine's own client knows it.
    """
    with _engine() as engine:
        digest = engine.push(repository, tag, _login(secret), seldom(tell))
    return f"{repository}@{digest}"


def size_bytes(image: str) -> int:
    """Of an image of this engine. Raises FoglineError."""
    with _engine() as engine:
        return engine.size_bytes(image)


def name_of(prefix: str, pipeline: str, segment: str) -> str:
    """What a segment's image is called in a registry: lower case, as registries want it."""
    name = "-".join(_NOT_IN_NAMES.sub("-", each.lower()).strip("-") or "x" for each in (pipeline, segment))
    return f"{prefix}/{name}" if prefix else name


def seldom(tell: Tell) -> Tell:
    """The same, told at most every two seconds."""
    told_at_s = time.monotonic()

    def run(said: str) -> None:
        nonlocal told_at_s
        if time.monotonic() - told_at_s >= TELL_S:
            told_at_s = time.monotonic()
            tell(said)

    return run


def _login(secret: str) -> dict[str, str]:
    file = Path(os.environ.get(SECRETS_VARIABLE, "")) / secret
    if not secret or not file.is_file():
        return {}
    user, colon, password = file.read_text().strip().partition(":")
    if not colon:
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"{file} is no login of a registry: it must hold USER:PASSWORD")
    return {"username": user, "password": password}


@contextmanager
def _engine() -> Iterator[Images]:
    try:
        from fogline.runtimes.container.images import EngineError, Images
    except ImportError:
        sentence = "the library that talks to a container engine is not installed: pip install 'fogline[docker]'"
        raise FoglineError(ErrorKind.FAILED, sentence) from None
    try:
        yield Images()
    except EngineError as error:
        raise FoglineError(ErrorKind.UNREACHABLE if error.away else ErrorKind.FAILED, str(error)) from error
    except OSError as error:
        raise FoglineError(ErrorKind.FAILED, f"the build context cannot be packed: {error}") from error
