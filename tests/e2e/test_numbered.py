"""Numbered records through three stages while things are killed under load: contents compared, nothing missing."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.numbered import Collector, publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

RECORDS = 20_000
KILLS = 3


def _three_stages(folder: Path, port: int) -> Path:
    """a adds one field, b a second, c a third; pinned to three nodes. b computes a while: it is always behind."""
    for name in "abc":
        work = "sum(range(20_000))" if name == "b" else "0"
        write_code(folder / name, f"def handler(data):\n    {work}\n    return {{**data, {name!r}: data['n'] * 2}}\n")
    stages = {
        name: a_stage(f"q{index}", f"q{index + 1}", infra=node, props={"path": f"./{name}"})
        for index, (name, node) in enumerate(zip("abc", ("edge_node", "cloud_1", "cloud_2"), strict=True), 1)
    }
    queues = {f"q{n}": a_queue(f"numbered/{n}", port=port) for n in range(1, 5)}
    infra: dict[str, Any] = {node: {} for node in ("edge_node", "cloud_1", "cloud_2")}
    document = {"version": "1.0", "id": "numbered", "pipeline": stages, "queues": queues, "infra": infra}
    return write_json(folder / "pipeline.json", document)


def test_nothing_is_missing_when_stages_and_the_coordinator_are_killed(
    tmp_path: Path, broker: Mosquitto, fleet: Cluster
) -> None:
    fleet.coord("submit", str(_three_stages(tmp_path, broker.port)))
    before = {row["name"]: row["pid"] for row in fleet.status("numbered")["stages"]}
    payloads = [b'{"n": %d}' % n for n in range(RECORDS)]
    publishing = threading.Thread(target=publish, args=(broker.port, "numbered/1", payloads))
    with Collector(broker.port, "numbered/4") as collector:
        publishing.start()
        pid = before["b"]
        for kill in range(1, KILLS + 1):
            share = kill * RECORDS // (KILLS + 2)
            wait_for(f"{share} records", partial(_arrived, collector, share), 60.0)
            os.kill(pid, signal.SIGKILL)
            if kill == 2:
                fleet.coordinator.end(signal.SIGKILL)
                fleet.coordinator.start()
                wait_for("nodes are back", lambda: set(fleet.agents) <= fleet.connected())
            pid = wait_for("another b", partial(_ready_pid, fleet, pid))
        publishing.join(60.0)
        wait_for("every record", lambda: len(collector.numbers()) >= RECORDS, 60.0)
        numbers = collector.numbers()
        wrong = [r for r in collector.records if r != {"n": r["n"], **dict.fromkeys("abc", r["n"] * 2)}]
    assert set(numbers) == set(range(RECORDS))
    assert wrong == []
    after = {row["name"]: row for row in fleet.status("numbered")["stages"]}
    assert (after["a"]["pid"], after["c"]["pid"]) == (before["a"], before["c"]), "only b was killed"
    assert after["b"]["restarts"] == KILLS
    assert after["b"]["redelivered"] >= KILLS, "the kills hit an idle process: this run proves nothing"
    for row in after.values():
        assert row["in"] == sum(row[key] for key in ("done", "filtered", "dead_lettered", "dropped", "in_flight")), row


def _arrived(collector: Collector, count: int) -> bool:
    return len(collector.records) >= count


def _ready_pid(fleet: Cluster, former: int) -> int | None:
    """The PID of b once it is another process than `former`, and ready."""
    row = fleet.stage("numbered", "b")
    return row["pid"] if row["state"] == "ready" and row["pid"] != former else None
