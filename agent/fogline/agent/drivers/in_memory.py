"""A folder in memory that all agents of one user on this machine have, and nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fogline.wire.terms import ErrorKind, FoglineError

MEMORY = Path("/dev/shm")  # noqa: S108  # in there only in a folder of ours


def home() -> Path:
    """The folder, made where it is not there. Raises FoglineError where somebody else has made it."""
    folder = place()
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise FoglineError(
            ErrorKind.FAILED, f"{folder}, where secrets are kept in memory, is not ours alone: remove it"
        )
    return folder


def place() -> Path:
    """Where it is, or would be."""
    return MEMORY / f"fogline-{os.geteuid()}"
