"""The anomaly example as the tests use it: its modules loaded from their files, and made-up recordings."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "anomaly-detection"


def load(file: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A fresh copy of one of the example's modules (`preparation/main.py`): no state of an earlier one."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location(f"example_{file.replace('/', '_')[:-3]}", EXAMPLE / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def telemetry(records: int, *, cpu: float = 8.0, seed: int = 1) -> list[dict[str, Any]]:
    """An idle machine at five records a second."""
    chance = random.Random(seed)
    return [
        {
            "timestamp": f"2026-01-01T00:{tick // 300:02}:{tick / 5 % 60:06.3f}",
            "cpu": max(0.0, chance.gauss(cpu, 2.0)),
            "disk": 0.0,
            "network": max(0.0, chance.gauss(20_000, 8_000)),
        }
        for tick in range(records)
    ]


def metric(records: int, *, seed: int = 1) -> list[dict[str, Any]]:
    """One measured value every five minutes."""
    chance = random.Random(seed)
    return [
        {
            "timestamp": f"2026-01-01 {tick // 12 % 24:02}:{tick % 12 * 5:02}:00",
            "value": chance.gauss(40.0, 3.0),
        }
        for tick in range(records)
    ]
