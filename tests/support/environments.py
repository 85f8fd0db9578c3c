"""Virtual environments of foreign programs, kept until what they must hold changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

INSTALL_S = 900.0


class NotInstalled(Exception):
    """Something that cannot be had here; the message says why."""


def python_of(folder: Path, wanted: str) -> Path:
    """The interpreter of the environment in `folder`, which is made when it does not hold `wanted`, lines of pip.

    Raises NotInstalled.
    """
    python, stamp = folder / "bin/python", folder / "holds.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {folder.name} into {folder}", file=sys.stderr)
        _run(folder.name, sys.executable, "-m", "venv", "--clear", str(folder))
        beside = str(Path(sys.executable).parent)
        uv = shutil.which("uv", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
        quick = (uv, "pip", "install", "--quiet", "--python", str(python)) if uv else None
        slow = (str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        _run(folder.name, *(quick or slow), *wanted.splitlines())
        stamp.write_text(wanted)
    return python


def _run(name: str, *argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{name}: not installed within {INSTALL_S:g} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise NotInstalled(f"{name}: {last}")
