"""Dead letters as a person gets them: by `coord dead-letters`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from support.cluster import Cluster


def payloads(cluster: Cluster, id_: str) -> Callable[[], list[bytes]]:
    """Reads the payloads of every dead letter of a deployment."""

    def read() -> list[bytes]:
        shown = cluster.coord("dead-letters", id_, "show", "--output", "json", seconds=300.0)
        return [_bytes(letter) for letter in json.loads(shown.stdout)]

    return read


def _bytes(letter: dict[str, Any]) -> bytes:
    text: str = letter["payload"]
    return base64.b64decode(text) if letter["encoding"] == "base64" else text.encode()
