"""The load of the REST rows, by `wrk`: what a server takes, and whether it answers rightly at all."""

from __future__ import annotations

import json
import re
import subprocess
from typing import NamedTuple

from bench.models import Models
from bench.rest_servers import Door

CHECKED = 50
"""Answers that are compared before a server is measured."""
MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class NotRight(Exception):
    """A server that answers wrongly is not measured."""


class Load(NamedTuple):
    """What came of one load."""

    rate: float
    """Requests a second."""
    p50_ms: float
    p99_ms: float


def check(door: Door, models: Models) -> None:
    """Raises NotRight."""
    for payload, expected in zip(models.payloads[:CHECKED], models.expected, strict=False):
        answer = door.answer(json.loads(payload)["features"])
        if answer != expected["score"]:
            raise NotRight(f"{door.url} answers {answer} to {payload!r}, not {expected['score']}")


def load(door: Door, models: Models, clients: int, seconds: float) -> Load:
    """So many clients, each waiting for its answer. Raises NotRight for any answer but 200."""
    script = models.sklearn.parent / "load.lua"
    body = door.body(json.loads(models.payloads[0])["features"]).decode()
    script.write_text(
        f"wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = {json.dumps(body)}\n"
    )
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script), door.url]
    told = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise NotRight(f"{door.url}: {told.strip().splitlines()[-3:]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert rate is not None, told
    return Load(float(rate[1]), _percentile(told, 50), _percentile(told, 99))


def _percentile(told: str, which: int) -> float:
    found = re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", told)
    assert found is not None, told
    return float(found[1]) * MS[found[2]]
