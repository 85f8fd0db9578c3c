"""Which machine this is: the submitter and the agent must say the same of one machine."""

from __future__ import annotations

import uuid
from pathlib import Path

_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def machine_id() -> str:
    """The machine's id (machine-id(5)); where there is none, one made from its hardware address."""
    for name in _FILES:
        path = Path(name)
        if path.is_file() and (found := path.read_text().strip()):
            return found
    return f"{uuid.getnode():032x}"
