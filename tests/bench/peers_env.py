"""Environments for the peers: one each under `build/bench-peers`, kept until what it must hold changes.

    python -m bench.peers_env [NAME ...]

The libraries of the model are those of this environment, so that all programs run the same code there.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[2] / "build/bench-peers"
REQUIREMENTS = Path(__file__).parent
"""Folders of peers lie in it, each with files `requirements-NAME.txt`."""
SHARED = ("scikit-learn", "joblib", "numpy", "orjson")
INSTALL_S = 600.0


class NotInstalled(Exception):
    """A peer that cannot be had here; the message says why."""


def names() -> list[str]:
    """Of all environments."""
    return sorted(path.stem.removeprefix("requirements-") for path in REQUIREMENTS.rglob("requirements-*.txt"))


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, which is made when it is not there. Raises NotInstalled."""
    (requirements,) = REQUIREMENTS.rglob(f"requirements-{name}.txt")
    wanted = requirements.read_text()
    wanted += "".join(f"{each}=={version(each)}\n" for each in SHARED)
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin/python", folder / "holds.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"bench: installing {name} into {folder}", file=sys.stderr)
        _run(name, sys.executable, "-m", "venv", "--clear", str(folder))
        quiet = ("--disable-pip-version-check", "--quiet")
        _run(name, str(python), "-m", "pip", *quiet, "install", *wanted.splitlines())
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


if __name__ == "__main__":
    for each in sys.argv[1:] or names():
        print(python_of(each))
