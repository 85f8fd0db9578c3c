"""Foreign clients of an inference server, each in an environment of its own: what they hold belongs to them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from support import environments

TESTS = Path(__file__).parents[1]
ENVIRONMENTS = TESTS.parent / "build/clients"
NAMES = {
    "tritonclient": "tritonclient[http]==2.73.0\n",
    "kserve": "kserve==0.21.0\n",
    "schemathesis": "schemathesis>=4\n",
}


def python_of(name: str) -> Path:
    """The interpreter that has the client. Raises NotInstalled."""
    return environments.python_of(ENVIRONMENTS / name, NAMES[name])


def missing(name: str) -> bool:
    """Whether its environment has not been made yet: tests do not wait for hundreds of megabytes."""
    return not (ENVIRONMENTS / name / "holds.txt").exists()


def answers(client: str, *arguments: str) -> Any:
    """What `tests/clients/CLIENT.py` prints, as a document."""
    argv = [str(python_of(client)), str(TESTS / f"clients/{client}_program.py"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
