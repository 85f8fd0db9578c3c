"""A folder of code as one blob: a tar whose bytes depend on names, contents and executable bits alone."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from fogline.wire.terms import ErrorKind, FoglineError

SIZE_LIMIT_BYTES = 64 * 1024 * 1024
"""Contents of all files of a bundle together."""
ENTRY_LIMIT = 10_000
"""Files and folders of a bundle together."""
_SKIPPED = frozenset({"__pycache__", ".git", ".venv"})
_ADVICE = "point props.path at a folder that holds the stage's code alone"


def bundle_folder(path: Path) -> bytes:
    """The uncompressed tar of what is in the folder; the same tree gives the same bytes on every machine.

    Left out: `__pycache__`, `.git`, `.venv` and `*.pyc`. Raises FoglineError (invalid document) for a folder
    that cannot be read or is too large, and for anything in it that is neither a regular file nor a folder.
    """
    root = Path(os.path.realpath(path))
    try:
        members = _members(root)
        return _tar(members)
    except OSError as problem:
        raise _refusal(f"{problem.filename or path} cannot be read: {problem.strerror}") from problem


def left_out(name: str) -> bool:
    """Whether a file or folder of this name is no part of the code."""
    return name in _SKIPPED or name.endswith(".pyc")


def _members(root: Path) -> list[tuple[str, Path]]:
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
            raise _refusal(f"{root} holds more than {ENTRY_LIMIT} files and folders: {_ADVICE}")
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


def _tar(members: list[tuple[str, Path]]) -> bytes:
    buffer = io.BytesIO()
    room_bytes = SIZE_LIMIT_BYTES
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, place in members:
            mode = place.lstat().st_mode
            info = tarfile.TarInfo(name)
            if stat.S_ISDIR(mode):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                continue
            content = _content(place, mode, room_bytes)
            room_bytes -= len(content)
            info.size, info.mode = len(content), 0o755 if mode & stat.S_IXUSR else 0o644
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _content(place: Path, mode: int, room_bytes: int) -> bytes:
    if stat.S_ISLNK(mode):
        raise _refusal(f"{place} is a symbolic link, which may lead out of the folder: put the file itself there")
    if not stat.S_ISREG(mode):
        raise _refusal(f"{place} is neither a file nor a folder: remove it from the stage's code")
    with place.open("rb") as file:
        content = file.read(room_bytes + 1)
    if len(content) > room_bytes:
        raise _refusal(f"the code folder is larger than {SIZE_LIMIT_BYTES // 1024**2} MiB at {place}: {_ADVICE}")
    return content


def _refusal(sentence: str) -> FoglineError:
    return FoglineError(ErrorKind.INVALID_DOCUMENT, sentence)
