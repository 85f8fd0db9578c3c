"""The first process of a container: gives the shim what an agent gives it outside. Standard library only.

Run as `python -I -S inside.py COMMAND...` in the workspace. The log goes to the workspace, as everywhere, and the lock
on the workspace is taken here: it is the same file outside, so that nobody else starts anything beside it.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import sys

LOCKED = 73
"""Exit code: a shim still lives in this workspace."""


def main(command: list[str]) -> int:
    """Become the shim of `command`; how that ended is in `exit.json`."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    shim = importlib.import_module("shim")  # it lies beside this file; in there it is no part of a package

    lock = os.open("shim.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return LOCKED
    log = os.open("stage.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if lock != shim.LOCK:
        os.dup2(lock, shim.LOCK)
    shim.main(os.getcwd(), command)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
