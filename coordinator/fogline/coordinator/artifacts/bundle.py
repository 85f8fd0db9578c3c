"""A folder as one blob: a tar whose bytes depend on names, contents and executable bits alone."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fogline.wire.terms import ErrorKind, FoglineError

SIZE_LIMIT_BYTES = 64 * 1024 * 1024
"""Contents of all files of a bundle of code together."""
MODEL_LIMIT_BYTES = 1024**3
"""Of a model's."""
ENTRY_LIMIT = 10_000
"""Files and folders of a bundle together."""
_SKIPPED = frozenset({"__pycache__", ".git", ".venv"})


@dataclass(frozen=True)
class _Content:
    """What a folder should hold, for the sentences about one that does not."""

    what: str
    limit_bytes: int

    @property
    def advice(self) -> str:
        return f"point props.path at a folder that holds the {self.what} alone"


def bundle_folder(path: Path) -> bytes:
    """The uncompressed tar of a folder of code; the same tree gives the same bytes on every machine.

    Left out: `__pycache__`, `.git`, `.venv` and `*.pyc`. Raises FoglineError (invalid document) for a folder
    that cannot be read or is too large, and for anything in it that is neither a regular file nor a folder.
    """
    buffer = io.BytesIO()
    _bundle(path, buffer, _Content("stage's code", SIZE_LIMIT_BYTES))
    return buffer.getvalue()


def bundle_model(path: Path, target: Path) -> None:
    """The same of a folder that is a model, which may be too large for the memory: written to `target`."""
    with target.open("wb") as out:
        _bundle(path, out, _Content("model", MODEL_LIMIT_BYTES))


def _bundle(path: Path, out: IO[bytes], content: _Content) -> None:
    root = Path(os.path.realpath(path))
    try:
        _tar(_members(root, content), out, content)
    except OSError as problem:
        raise _refusal(f"{problem.filename or path} cannot be read: {problem.strerror or problem}") from problem


def left_out(name: str) -> bool:
    """Whether a file or folder of this name is no part of the code."""
    return name in _SKIPPED or name.endswith(".pyc")


def _members(root: Path, content: _Content) -> list[tuple[str, Path]]:
    """Name inside the bundle and place on disk of every member, sorted by name: folders before their files."""
    found: list[tuple[str, Path]] = []
    for place in _walk(root):
        name = place.relative_to(root).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError:
            raise _refusal(f"the name of {name!r} in {root} is not UTF-8: rename it") from None
        found.append((name, place))
        if len(found) > ENTRY_LIMIT:
            raise _refusal(f"{root} holds more than {ENTRY_LIMIT} files and folders: {content.advice}")
    return sorted(found)


def _walk(root: Path) -> Iterator[Path]:
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if left_out(entry.name):
                    continue
                yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))


def _tar(members: list[tuple[str, Path]], out: IO[bytes], content: _Content) -> None:
    room_bytes = content.limit_bytes
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, place in members:
            mode = place.lstat().st_mode
            info = tarfile.TarInfo(name)
            if stat.S_ISDIR(mode):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                continue
            _must_be_a_file(place, mode, content)
            with place.open("rb") as file:
                info.size, info.mode = os.fstat(file.fileno()).st_size, 0o755 if mode & stat.S_IXUSR else 0o644
                room_bytes -= info.size
                if room_bytes < 0:
                    limit = f"{content.limit_bytes // 1024**2} MiB"
                    raise _refusal(f"the folder is larger than {limit} at {place}: {content.advice}")
                archive.addfile(info, file)


def _must_be_a_file(place: Path, mode: int, content: _Content) -> None:
    if stat.S_ISLNK(mode):
        raise _refusal(f"{place} is a symbolic link, which may lead out of the folder: put the file itself there")
    if not stat.S_ISREG(mode):
        raise _refusal(f"{place} is neither a file nor a folder: remove it from the {content.what}")


def _refusal(sentence: str) -> FoglineError:
    return FoglineError(ErrorKind.INVALID_DOCUMENT, sentence)
