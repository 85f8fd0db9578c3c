"""The tree of a commit as files: what git lists is checked first, then written byte by byte."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from fogline.coordinator.artifacts.bundle import ENTRY_LIMIT, SIZE_LIMIT_BYTES, left_out
from fogline.coordinator.padl.problems import quoted
from fogline.wire.terms import ErrorKind, FoglineError

_FILE, _PROGRAM, _LINK, _SUBMODULE = "100644", "100755", "120000", "160000"
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
"""At most, says the specification of LFS."""


@dataclass(frozen=True)
class File:
    """One file of a commit."""

    name: str
    """Path in the repository, with slashes."""
    blob: str
    size_bytes: int
    executable: bool


@dataclass(frozen=True)
class Tree:
    """What belongs to the code: `.git`, `__pycache__` and the like are left out, as from a folder."""

    files: tuple[File, ...]
    submodules: tuple[str, ...]


def parsed(listing: bytes) -> Tree:
    """The tree behind `git ls-tree -r -z --long`. Raises FoglineError for what no stage's code may hold."""
    files, submodules, room_bytes = list[File](), list[str](), SIZE_LIMIT_BYTES
    for row in listing.split(b"\0")[:-1]:
        facts, _, raw = row.partition(b"\t")
        mode, _, blob, size = facts.decode().split()
        name = os.fsdecode(raw)
        parts = name.split("/")
        if any(map(left_out, parts)):
            continue
        if any(part in {"", ".", ".."} for part in parts):
            raise _refusal(f"the repository holds a file named {quoted(name)}, which leads out of it")
        if mode == _LINK:
            raise _refusal(
                f"{quoted(name)} in the repository is a symbolic link, which may lead out of it: commit the file"
            )
        if mode == _SUBMODULE:
            submodules.append(name)
            continue
        files.append(File(name, blob, int(size), mode == _PROGRAM))
        room_bytes -= int(size)
        if room_bytes < 0:
            limit = SIZE_LIMIT_BYTES // 1024**2
            raise _refusal(
                f"the repository's files are larger than {limit} MiB at {quoted(name)}: keep data and models apart"
            )
        if len(files) > ENTRY_LIMIT:
            raise _refusal(f"the repository holds more than {ENTRY_LIMIT} files: give the stage's code one of its own")
    return Tree(tuple(files), tuple(submodules))


def write_out(folder: Path, tree: Tree, contents: bytes) -> None:
    """The files of the tree, in place of what the folder held. `contents` is the output of `git cat-file --batch`."""
    fresh = folder.with_name(folder.name + ".new")
    for leftover in (fresh, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    fresh.mkdir(parents=True)
    at = 0
    for file in tree.files:
        begin = contents.index(b"\n", at) + 1  # after the line that repeats name, kind and size
        at = begin + file.size_bytes + 1
        place = fresh / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as written:  # x: a crafted tree may hold a name twice
            written.write(contents[begin : at - 1])
        place.chmod(0o755 if file.executable else 0o644)
    fresh.rename(folder)


def is_whole(folder: Path, tree: Tree) -> bool:
    """Whether the folder holds the files of the tree and no others."""
    if not folder.is_dir():
        return False
    there = {
        os.path.relpath(os.path.join(root, name), folder)
        for root, folders, names in os.walk(folder)
        for name in (*names, *(each for each in folders if os.path.islink(os.path.join(root, each))))
    }
    there = {name for name in there if not any(map(left_out, name.split("/")))}
    return there == {file.name for file in tree.files} and all(_same(folder / file.name, file) for file in tree.files)


def pointers(folder: Path, tree: Tree) -> tuple[str, ...]:
    """Files that only refer to what Git LFS holds."""
    small = [file.name for file in tree.files if len(_POINTER) < file.size_bytes <= _POINTER_BYTES]
    return tuple(name for name in small if (folder / name).read_bytes().startswith(_POINTER))


def _same(place: Path, file: File) -> bool:
    if place.is_symlink() or bool(place.stat().st_mode & 0o100) != file.executable:
        return False
    content = place.read_bytes()
    # git names a file by this very hash; it finds what was changed, not what was forged: the cache is the user's own.
    name = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return name.hexdigest() == file.blob


def _refusal(sentence: str) -> FoglineError:
    return FoglineError(ErrorKind.INVALID_DOCUMENT, sentence)
