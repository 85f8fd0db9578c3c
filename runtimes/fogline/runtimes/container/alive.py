"""The health check of a container: whether its stage answers on the control socket. Standard library only."""

from __future__ import annotations

import json
import socket
import sys

SOCKET = "/workspace/control.sock"
ANSWER_S = 5.0


def main() -> int:
    """0 when it answers whatever it is asked, 1 when nobody does."""
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(ANSWER_S)
            door.connect(SOCKET)
            door.sendall(json.dumps({"op": "status", "id": 1}).encode() + b"\n")
            return 0 if door.recv(1) else 1
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
