"""What goes from the state folder: what an agent that died left half, and what is not needed any more.

Whatever goes loses its name first, in one step: nobody finds half of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fogline.agent.host import runtime

_TRASH = ".trash-"
_HALF = (
    f"environments/{runtime.DRAFT}*",
    f"runtime/{runtime.DRAFT}*",
    "artifacts/.unpacking-*",
    "wheels",
    f"{_TRASH}*",
)
DIGEST_LENGTH = 64


@dataclass(frozen=True)
class Keep:
    """What must stay, by name; of artifacts by digest."""

    artifacts: frozenset[str]
    environments: frozenset[str]
    runtimes: frozenset[str]


@dataclass(frozen=True)
class Unneeded:
    """Something that may go."""

    kind: str
    """`environment`, `runtime`, `artifact` or `cache`: of unpacked wheels."""
    path: Path

    def still(self, keep: Keep) -> bool:
        """Whether it may go when this must stay."""
        name = self.path.name
        kept = {"environment": keep.environments, "runtime": keep.runtimes, "artifact": keep.artifacts}
        return name[:DIGEST_LENGTH] not in kept.get(self.kind, frozenset())


def clear_half(state_dir: Path) -> None:
    """Remove what is half. Call while nothing is being made."""
    for pattern in _HALF:
        for path in state_dir.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def unneeded(state_dir: Path, keep: Keep) -> list[Unneeded]:
    """What may go. An unpacked wheel may, when none of its files is part of an environment that stays."""
    places = {"environment": "environments", "runtime": "runtime", "artifact": "artifacts"}
    found = [Unneeded(kind, path) for kind, place in places.items() for path in _named(state_dir / place)]
    going = [each for each in found if each.still(keep)]
    gone = {each.path for each in going}
    staying = [path for path in (state_dir / "environments").glob("*") if path not in gone]
    shared = {status.st_ino for path in staying for status in _files(path)}
    for path in sorted((state_dir / "uv-cache").glob("archive-v*/*")):
        if not any(status.st_ino in shared for status in _files(path)):
            going.append(Unneeded("cache", path))
    return going


def freed_bytes(going: Iterable[Unneeded]) -> list[int]:
    """What the disk gets back for each; a file under several names counts once the last of them goes."""
    left: dict[int, int] = {}
    freed = []
    for each in going:
        total_bytes = 0
        for status in _files(each.path):
            left[status.st_ino] = left.get(status.st_ino, status.st_nlink) - 1
            total_bytes += status.st_blocks * 512 if left[status.st_ino] == 0 else 0
        freed.append(total_bytes)
    return freed


def take_away(paths: Iterable[Path], state_dir: Path) -> Path:
    """Have them gone under their names, at once; the folder that they are in now is for `destroy`."""
    trash = Path(tempfile.mkdtemp(prefix=_TRASH, dir=state_dir))
    for number, path in enumerate(paths):
        with contextlib.suppress(FileNotFoundError):  # somebody was quicker
            path.rename(trash / str(number))
    return trash


def destroy(trash: Path) -> None:
    """Give the disk back what was taken away."""
    shutil.rmtree(trash, ignore_errors=True)


def size_bytes(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    return sum(status.st_size for status in _files(path))


def _named(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def _files(path: Path) -> Iterator[os.stat_result]:
    with contextlib.suppress(FileNotFoundError):  # it may go while it is looked at
        if not path.is_dir():
            yield path.lstat()
            return
        for folder, _, names in os.walk(path):
            for name in names:
                yield os.lstat(os.path.join(folder, name))
