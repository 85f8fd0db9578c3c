"""TensorFlow, which is too large for the environment of the tests, in one of its own: `build/tensorflow`, one per
machine (`FOGLINE_TENSORFLOW` names another folder). Made by install-real-parts.sh, else when a test asks for it.

    python tests/support/tensorflow_env.py
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOLDS = (
    "tensorflow-cpu>=2.16" if os.uname().machine == "x86_64" else "tensorflow>=2.16",
    *("numpy>=1.26", "orjson>=3.9", "uvicorn>=0.30", "uvloop>=0.19", "httptools>=0.6"),
)
"""What the extras and the runtime ask for."""
INSTALL_S = 600.0


class NotInstalled(Exception):
    """It cannot be had here; the message says why."""


def python() -> Path:
    """The interpreter that has TensorFlow; made when it is not there, once however many ask. Raises NotInstalled."""
    folder = Path(os.environ.get("FOGLINE_TENSORFLOW") or ROOT / "build/tensorflow")
    folder.parent.mkdir(parents=True, exist_ok=True)
    stamp, wanted = folder / "holds.txt", "\n".join((sys.version, *HOLDS))
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(folder)
            stamp.write_text(wanted)
    return folder / "bin/python"


def environment() -> dict[str, str]:
    """In which that interpreter finds the runtime of this tree."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / each) for each in ("runtimes", "tests"))}


def _install(folder: Path) -> None:
    uv = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if uv:
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *HOLDS)
    else:
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        quiet = ("--disable-pip-version-check", "--quiet")
        _run(str(folder / "bin/python"), "-m", "pip", *quiet, "install", *HOLDS)


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"TensorFlow is not installed within {INSTALL_S:g} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise NotInstalled(f"TensorFlow cannot be installed: {last}")


if __name__ == "__main__":
    try:
        print(python())
    except NotInstalled as reason:
        print(f"{reason}; its tests are skipped.", file=sys.stderr)
