"""REST: one row of 20 numbers in, one class out, from 1, 16 and 64 clients that each wait for their answer.

The clients are `wrk`, in C. Every server holds the same model, in one process that computes in one thread. Before
anything is measured each must give the right answers; while it is measured any answer but 200 is an error.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import rest_servers
from bench.models import Models, write
from bench.peers_env import NotInstalled
from bench.rest_servers import Door
from bench.rows import Row, compared, measured, not_compared
from bench.size import Size
from fogline.runtimes.frameworks.sklearn_model import SklearnModel
from fogline.runtimes.spec import StageSpec

CLIENTS = (16, 64)
CHECKED = 50
"""Answers that are compared before a server is measured."""
MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
Server = Callable[[Path, Path], AbstractContextManager[dict[str, Door]]]


@dataclass(frozen=True)
class Peer:
    """A server that Fogline is measured against."""

    label: str
    server: Server
    door: str
    ours: str
    """Our door that takes the same."""
    budget: str


PEERS = (
    Peer("FastAPI, uvicorn, as shipped", rest_servers.fastapi, "plain", "plain", ">= 5x"),
    Peer("MLServer, V2 protocol", rest_servers.mlserver, "v2", "v2", ">= 10x"),
    Peer("BentoML as shipped", rest_servers.bentoml, "plain", "plain", ">= 25x"),
    Peer("BentoML, adaptive batching", rest_servers.bentoml, "batched", "plain", ">= 1.5x"),
)


class NotRight(Exception):
    """A server that answers wrongly is not measured."""


def rows(folder: Path, size: Size) -> list[Row]:
    """Ours against every peer, in pairs that take turns; the latency of one client beside the model's own time."""
    if shutil.which("wrk") is None:
        raise RuntimeError("there is no wrk: run tests/install-real-parts.sh")
    models = write(folder, 200)
    with rest_servers.ours(folder, models.sklearn) as own:
        for door in own.values():
            _check(door, models)
        found = [_latency(own["plain"], models, size)]
        for server in dict.fromkeys(each.server for each in PEERS):
            peers = [each for each in PEERS if each.server is server]
            found += _measured(peers, own, models, folder, size)
    return found


def _measured(peers: list[Peer], own: dict[str, Door], models: Models, folder: Path, size: Size) -> list[Row]:
    """The rows of one server; when it cannot be measured, one row each that says why."""
    with ExitStack() as stack:
        try:
            doors = stack.enter_context(peers[0].server(folder, models.sklearn))
            return [row for each in peers for row in _against(each, doors[each.door], own[each.ours], models, size)]
        except NotInstalled as error:
            reason = f"not installed: {error}"
        except Exception as error:  # noqa: BLE001 - it is shown in its row, and the others are measured
            traceback.print_exc()
            reason = str(error).partition("\n")[0]
        rate, _ = _load(own["plain"], models, CLIENTS[0], size.rest_s)
        return [not_compared("REST", rate, "requests/s", f"{each.label}: {reason}", each.budget) for each in peers]


def _against(peer: Peer, theirs: Door, ours: Door, models: Models, size: Size) -> list[Row]:
    _check(theirs, models)
    found = []
    for clients in CLIENTS:
        pairs = []
        for _ in range(size.rest_pairs):
            pairs.append(tuple(_load(door, models, clients, size.rest_s)[0] for door in (ours, theirs)))
        name = f"REST, {'V2, ' if ours.v2 else ''}{clients} clients"
        found.append(compared(name, "requests/s", peer.label, [(a, b) for a, b in pairs], peer.budget))
    return found


def _latency(door: Door, models: Models, size: Size) -> Row:
    """The median of an answer to one client, without the model's own time."""
    stage = StageSpec("model", "sklearn", (), (), path=str(models.sklearn), options={"input": "features"})
    model = SklearnModel(stage, models.sklearn.parent)
    model.load()
    record = json.loads(models.payloads[0])
    beyond = []
    for _ in range(size.rest_pairs):
        times = []
        until = time.perf_counter() + size.rest_s / 4
        while time.perf_counter() < until:
            time.sleep(0.0001)  # as in a server, which sleeps until a request comes: caches are cold
            began = time.perf_counter()
            model.process([record])
            times.append(time.perf_counter() - began)
        _, p50_ms = _load(door, models, 1, size.rest_s)
        beyond.append(p50_ms - 1000 * statistics.median(times))
    return measured("REST p50, 1 client, beyond the model's own", statistics.median(beyond), "ms", "<= 0.15 ms")


def _check(door: Door, models: Models) -> None:
    for payload, expected in zip(models.payloads[:CHECKED], models.expected, strict=False):
        answer = door.answer(json.loads(payload)["features"])
        if answer != expected["score"]:
            raise NotRight(f"{door.url} answers {answer} to {payload!r}, not {expected['score']}")


def _load(door: Door, models: Models, clients: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and the median latency in milliseconds."""
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
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", told)
    assert rate is not None, told
    assert median is not None, told
    return float(rate[1]), float(median[1]) * MS[median[2]]
