"""Lets only those windows through that the autoencoder could not rebuild."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

LIMIT: float = json.loads(Path(__file__).with_name("limit.json").read_text())["limit"]
"""Mean absolute error that the training data stays below; written by the training."""


def handler(data: dict[str, Any]) -> dict[str, Any] | None:
    """{"timestamp", "window", "rebuilt"} becomes {"timestamp", "error"} when the error is above the limit."""
    error = float(np.abs(np.array(data["window"]) - np.array(data["rebuilt"])).mean())
    return {"timestamp": data["timestamp"], "error": error} if error > LIMIT else None
