"""Turns measurements into windows that the model reads: the last twenty, each field scaled to about 0..1."""

from __future__ import annotations

from collections import deque
from typing import Any

STEPS = 20
SCALES = {"cpu": 100.0, "network": 5e6, "disk": 2e7}
"""Field of a measurement -> what counts as much of it: per cent, bytes a second, bytes a second."""

_last: deque[list[float]] = deque(maxlen=STEPS)


def handler(data: dict[str, Any]) -> dict[str, Any] | None:
    """{"timestamp": t, "cpu": 7.5, "network": ..., "disk": ...} becomes {"timestamp", "window"}, a list of 20 steps of
    3 numbers. Nothing comes of the first nineteen. Raises KeyError for a measurement without one of the fields."""
    _last.append([data[name] / scale for name, scale in SCALES.items()])
    if len(_last) < STEPS:
        return None
    return {"timestamp": data["timestamp"], "window": list(_last)}
