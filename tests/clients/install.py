"""Makes the environments of the foreign clients, under `build/clients`: `python tests/clients/install.py`."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from support.clients import NAMES, python_of  # noqa: E402

if __name__ == "__main__":
    for name in NAMES:
        print(python_of(name))
