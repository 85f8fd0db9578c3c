"""Environments for the peers: one each under `build/bench-peers`, kept until what it must hold changes.

    python -m bench.peers_env [NAME ...]

The libraries of the model are those of this environment, so that all programs run the same code there.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from support import environments
from support.environments import NotInstalled

ENVIRONMENTS = Path(__file__).parents[2] / "build/bench-peers"
REQUIREMENTS = Path(__file__).parent
"""Folders of peers lie in it, each with files `requirements-NAME.txt`."""
SHARED = ("scikit-learn", "joblib", "numpy", "orjson")
__all__ = ["NotInstalled", "names", "python_of", "version_in"]


def names() -> list[str]:
    """Of all environments."""
    return sorted(path.stem.removeprefix("requirements-") for path in REQUIREMENTS.rglob("requirements-*.txt"))


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, which is made when it is not there. Raises NotInstalled."""
    (requirements,) = REQUIREMENTS.rglob(f"requirements-{name}.txt")
    wanted = requirements.read_text() + "".join(f"{each}=={version(each)}\n" for each in SHARED)
    return environments.python_of(ENVIRONMENTS / name, wanted)


@cache
def version_in(name: str) -> str:
    """Of the package that an environment is named after. Raises NotInstalled."""
    program = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.check_output([python_of(name), "-c", program], text=True).strip()


if __name__ == "__main__":
    for each in sys.argv[1:] or names():
        print(python_of(each))
