"""What an agent that died in the middle of its work left half: removed by the next one before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from fogline.agent.host.runtime import DRAFT

TRASH = "trash"
"""In the state folder: what lost its name and is being removed."""
_HALF = (f"environments/{DRAFT}*", f"runtime/{DRAFT}*", "artifacts/.unpacking-*", "wheels", TRASH)


def clear(state_dir: Path) -> None:
    """Remove it. Call while nothing is being made."""
    for pattern in _HALF:
        for path in state_dir.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
