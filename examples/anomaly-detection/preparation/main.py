"""Turns one measurement into what the detector reads: for every field its value and its sudden change.

State lives in this process: the last values of each field. It is gone after a restart, and the first
record after one has a change of zero.
"""

from __future__ import annotations

from collections import deque
from typing import Any

WINDOW = 5
"""How many previous values of a field its change is measured against."""

_previous: dict[str, deque[float]] = {}


def handler(data: dict[str, Any]) -> dict[str, Any]:
    """{"timestamp": t, "cpu": 7.5, ...} becomes {"timestamp", "values", "features"}.

    `features` holds, for each numeric field in the order of the names, the value and its difference from
    the mean of the last five values before it. Raises ValueError for a record without a timestamp or
    without a numeric field.
    """
    if not isinstance(data, dict) or "timestamp" not in data:
        raise ValueError(f"expected an object with `timestamp` and numeric fields, got {data!r:.80}")
    values = {name: float(data[name]) for name in sorted(data) if _is_number(data[name]) and name != "timestamp"}
    if not values:
        raise ValueError(f"no numeric field beside `timestamp`: {sorted(data)}")
    features = [number for name, value in values.items() for number in (value, _change(name, value))]
    return {"timestamp": data["timestamp"], "values": values, "features": features}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _change(name: str, value: float) -> float:
    previous = _previous.setdefault(name, deque(maxlen=WINDOW))
    mean = sum(previous) / len(previous) if previous else value
    previous.append(value)
    return value - mean
