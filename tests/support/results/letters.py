"""Dead letters: as a person gets them, by `coord dead-letters`, or many at once from the node's file."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from support.cluster import Cluster


def payloads(cluster: Cluster, id_: str) -> Callable[[], list[bytes]]:
    """Reads the payloads of every dead letter of a deployment."""

    def read() -> list[bytes]:
        shown = cluster.coord("dead-letters", id_, "show", "--output", "json", seconds=300.0)
        return [_bytes(letter) for letter in json.loads(shown.stdout)]

    return read


def payloads_of_node(cluster: Cluster, node: str, id_: str) -> Callable[[], list[bytes]]:
    """The same from the node's own file: 10 000 letters are more than one answer of a node should be."""
    file = cluster.folder / node / "dead-letters" / id_ / f"{id_}.db"

    def read() -> list[bytes]:
        command = [sys.executable, "-m", "fogline.runtimes", "dead-letters", str(file), "show"]
        shown = subprocess.run(command, capture_output=True, check=True, timeout=300.0)
        return [_bytes(json.loads(line)) for line in shown.stdout.splitlines()]

    return read


def _bytes(letter: dict[str, Any]) -> bytes:
    text: str = letter["payload"]
    return base64.b64decode(text) if letter["encoding"] == "base64" else text.encode()
