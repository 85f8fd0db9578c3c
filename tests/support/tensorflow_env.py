"""TensorFlow, which is too large for the environment of the tests, in one of its own: `build/tensorflow`, one per
machine (`FOGLINE_TENSORFLOW` names another folder). Made by install-real-parts.sh, else when a test asks for it.

    python tests/support/tensorflow_env.py
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is a program, too

from support import environments

ROOT = Path(__file__).parents[2]
HOLDS = (
    "tensorflow-cpu>=2.16" if os.uname().machine == "x86_64" else "tensorflow>=2.16",
    *("numpy>=1.26", "orjson>=3.9", "uvicorn>=0.30,<0.55", "uvloop>=0.19", "httptools>=0.6"),
)
"""What the extras and the runtime ask for."""


def python() -> Path:
    """The interpreter that has TensorFlow; made when it is not there, once however many ask. Raises NotInstalled."""
    folder = Path(os.environ.get("FOGLINE_TENSORFLOW") or ROOT / "build/tensorflow")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return environments.python_of(folder, "\n".join(HOLDS))


def environment() -> dict[str, str]:
    """In which that interpreter finds the runtime of this tree."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / each) for each in ("runtimes", "tests"))}


if __name__ == "__main__":
    try:
        print(python())
    except environments.NotInstalled as reason:
        print(f"{reason}; its tests are skipped.", file=sys.stderr)
