"""What was fetched, kept for the next time: a folder of the user's own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder(*names: str) -> Path:
    """`fogline/NAMES` in the user's cache (XDG), made when absent and closed to others."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path there is to be ignored, says the specification.
    folder = (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "fogline"
    for name in ("", *names):
        folder = folder / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time: two that fetch the same thing would write into each other's files."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
