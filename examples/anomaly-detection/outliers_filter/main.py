"""Lets only anomalies through."""

from __future__ import annotations

from typing import Any

LIMIT = 1.0
"""The detector's score is a distance divided by its threshold: above one is unusual."""


def handler(data: dict[str, Any]) -> dict[str, Any] | None:
    """The record with `"anomaly": true` when its score is above the limit, else None: nothing flows on."""
    if data["score"] <= LIMIT:
        return None
    return {**data, "anomaly": True}
