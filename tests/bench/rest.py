"""REST: one row of 20 numbers in, one class out, from 1, 16 and 64 clients that each wait for their answer.

The clients are `wrk`, in C. Every server holds the same model, in one process that computes in one thread. Before
anything is measured each must give the right answers; while it is measured any answer but 200 is an error.
"""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import rest_alone, rest_crowd, rest_servers
from bench.models import Models, write
from bench.peers_env import NotInstalled, version_in
from bench.process_figures import MB, family_bytes
from bench.rest_load import check, load
from bench.rest_servers import Door, Running
from bench.rows import Row, compared, not_compared
from bench.size import Size

CLIENTS = (1, 16, 64)
Server = Callable[[Path, Path], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Peer:
    """A server that Fogline is measured against."""

    name: str
    package: str
    """Its environment, and what in it gives it its version."""
    setting: str
    server: Server
    door: str
    ours: str
    """Our door that takes the same."""
    budget: str | None
    """Of requests a second where there are several clients."""

    @property
    def label(self) -> str:
        """With the version that was measured."""
        return f"{self.name} {version_in(self.package)}, {self.setting}"


PEERS = (
    Peer("FastAPI", "fastapi", "uvicorn, one worker, as shipped", rest_servers.fastapi, "plain", "plain", ">= 5x"),
    Peer("MLServer", "mlserver", "V2 protocol, parallel_workers 0", rest_servers.mlserver, "v2", "v2", ">= 10x"),
    Peer("BentoML", "bentoml", "workers=1, as shipped", rest_servers.bentoml, "plain", "plain", ">= 25x"),
    Peer("BentoML", "bentoml", "workers=1, adaptive batching", rest_servers.bentoml, "batched", "plain", ">= 1.5x"),
    Peer("MLflow", "mlflow", "models serve --workers 1", rest_servers.mlflow, "plain", "plain", None),
)


def rows(folder: Path, size: Size) -> list[Row]:
    """Ours against every peer, in pairs that take turns; the latency of one client beside the model's own time."""
    if shutil.which("wrk") is None:
        raise RuntimeError("there is no wrk: run tests/install-real-parts.sh")
    models = write(folder, 200)
    with rest_servers.ours(folder, models.sklearn) as own:
        for door in own.doors.values():
            check(door, models)
        found = rest_alone.rows(own, models, size)
        for server in dict.fromkeys(each.server for each in PEERS):
            peers = [each for each in PEERS if each.server is server]
            found += _measured(peers, own, models, folder, size)
        return found + rest_crowd.rows(own.doors["plain"], models, size)


def _measured(peers: list[Peer], own: Running, models: Models, folder: Path, size: Size) -> list[Row]:
    """The rows of one server; when it cannot be measured, one row each that says why."""
    found = list[Row]()
    with ExitStack() as stack:
        try:
            there = stack.enter_context(peers[0].server(folder, models.sklearn))
            for each in peers:
                found += _against(each, there.doors[each.door], own.doors[each.ours], models, size)
            sizes_mb = [(family_bytes(own.pid) / MB, family_bytes(there.pid) / MB)]
            stack.close()
            label, pairs = peers[0].label, _starts(peers[0].server, models, folder, size)
        except NotInstalled as error:
            reason = f"not installed: {error}"
        except Exception as error:  # noqa: BLE001 - it is shown in its row, and the others are measured
            traceback.print_exc()
            reason = str(error).partition("\n")[0]
        else:
            return [
                *found,
                compared("REST, resident memory of all its processes (Pss)", "MB", label, sizes_mb),
                compared("REST, process start to the first answer", "s", label, pairs),
            ]
        rate = load(own.doors["plain"], models, CLIENTS[0], size.rest_s).rate
        return [not_compared("REST", rate, "requests/s", f"{each.name}: {reason}", each.budget) for each in peers]


def _against(peer: Peer, theirs: Door, ours: Door, models: Models, size: Size) -> list[Row]:
    check(theirs, models)
    found = []
    for clients in CLIENTS:
        pairs = []
        for _ in range(size.rest_pairs):
            pairs.append([load(door, models, clients, size.rest_s) for door in (ours, theirs)])
        name = f"REST, {'V2, ' if ours.v2 else ''}{clients} client{'s' if clients > 1 else ''}"
        budget = peer.budget if clients > 1 else None
        found.append(compared(name, "requests/s", peer.label, [(a.rate, b.rate) for a, b in pairs], budget))
        found.append(compared(f"{name}, p50", "ms", peer.label, [(a.p50_ms, b.p50_ms) for a, b in pairs]))
        found.append(compared(f"{name}, p99", "ms", peer.label, [(a.p99_ms, b.p99_ms) for a, b in pairs]))
    return found


def _starts(server: Server, models: Models, folder: Path, size: Size) -> list[tuple[float, float]]:
    """Seconds, ours and theirs, while nothing else runs."""
    found = []
    for turn in range(size.rounds):
        pair = []
        for each in (rest_servers.ours, server):
            with each(folder / f"start-{turn}-{server.__name__}", models.sklearn) as running:
                pair.append(running.start_s)
        found.append((pair[0], pair[1]))
    return found
