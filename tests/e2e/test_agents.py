"""Agents and coordinator come and go: the stages stay, with their PIDs, and lose nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.results.collector import Collector
from support.results.processes import segments
from support.results.producer import publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

ID = "steady"


def _document(folder: Path, port: int, body: str = "return data") -> str:
    write_code(folder / "code", f"def handler(data):\n    {body}\n")
    queues = {f"q{n}": a_queue(f"steady/{n}", port=port) for n in (1, 2)}
    document = {"version": "1.0", "id": ID, "pipeline": {"a": a_stage("q1", "q2")}, "queues": queues}
    return str(write_json(folder / "p.json", document))


def _stages(cluster: Cluster) -> list[int]:
    """PIDs of every segment process below the cluster's folder."""
    return [sight.pid for sight in segments(cluster.folder)]


def test_a_killed_agent_finds_its_stages_again(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    one_node.coord("submit", _document(tmp_path, broker.port))
    pid = one_node.stage(ID, "a")["pid"]
    with Collector(broker.port, "steady/2") as collector:
        for round_ in range(3):
            one_node.agents["edge_node"].end(signal.SIGKILL)
            publish(broker.port, "steady/1", [b'{"n": %d}' % n for n in range(round_ * 100, round_ * 100 + 100)])
            one_node.start_agents("edge_node")
            wait_for("ready", lambda: one_node.stage(ID, "a")["state"] == "ready")
            assert one_node.stage(ID, "a")["pid"] == pid
            assert _stages(one_node) == [pid]
        wait_for("every record", lambda: len(collector.numbers()) >= 300)
    assert [record["n"] for record in collector.records] == list(range(300)), "nothing twice: nothing was restarted"


def test_an_agent_without_a_coordinator_keeps_its_stages_alive(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    one_node.coord("submit", _document(tmp_path, broker.port))
    pid = one_node.stage(ID, "a")["pid"]
    one_node.coordinator.end(signal.SIGKILL)
    one_node.agents["edge_node"].end(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for("the stage is gone", lambda: _stages(one_node) == [])
    one_node.agents["edge_node"].start()
    with Collector(broker.port, "steady/2") as collector:
        wait_for("started from its own disk", lambda: _stages(one_node))
        publish(broker.port, "steady/1", [b'{"n": 1}'])
        wait_for("it works offline", lambda: collector.records)
    one_node.coordinator.start()
    wait_for("the node is back", lambda: "edge_node" in one_node.connected())
    assert _stages(one_node) == [one_node.stage(ID, "a")["pid"]]
    assert one_node.status(ID)["state"] == "running"


def test_a_node_that_is_away_is_degraded_and_stops_when_it_is_back(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    one_node.coord("submit", _document(tmp_path, broker.port))
    one_node.agents["edge_node"].end(signal.SIGTERM)
    away = wait_for("degraded", lambda: (s := one_node.status(ID))["state"] == "degraded" and s)
    assert away["reason"].startswith("node edge_node is not connected")
    refused = one_node.coord("send", ID, "-", input_="1\n", check=False)
    assert (refused.returncode, refused.stderr) == (8, "coord: node edge_node is not connected right now\n")
    one_node.start_agents("edge_node")
    wait_for("running again", lambda: one_node.status(ID)["state"] == "running")
    one_node.coord("stop", ID)
    assert _stages(one_node) == []


def test_a_killed_shim_costs_one_restart_and_no_record(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    one_node.coord("submit", _document(tmp_path, broker.port))
    pid = one_node.stage(ID, "a")["pid"]
    with Collector(broker.port, "steady/2") as collector:
        publish(broker.port, "steady/1", [b'{"n": %d}' % n for n in range(100)])
        os.kill(_parent(pid), signal.SIGKILL)
        publish(broker.port, "steady/1", [b'{"n": %d}' % n for n in range(100, 200)])
        wait_for("another process", lambda: (found := _stages(one_node)) and found != [pid])
        wait_for("every record", lambda: len(collector.numbers()) == 200)
        row = wait_for("ready", lambda: (row := one_node.stage(ID, "a"))["state"] == "ready" and row)
    assert _stages(one_node) == [row["pid"]]
    assert row["restarts"] == 1
    assert [record["n"] for record in collector.records] == list(range(200)), "it was drained: nothing twice"


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_an_agent_that_lost_its_store_stops_and_doubles_nothing(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    one_node.coord("submit", _document(tmp_path, broker.port))
    pid = one_node.stage(ID, "a")["pid"]
    agent = one_node.agents["edge_node"]
    store = one_node.folder / "edge_node" / "state.db"
    for damage in (None, store.read_bytes()[:6000]):
        agent.end(signal.SIGKILL)
        store.unlink() if damage is None else store.write_bytes(damage)
        one_node.start_agents("edge_node")
        agent = one_node.agents["edge_node"]
        wait_for("ready", lambda: one_node.stage(ID, "a")["state"] == "ready")
        assert _stages(one_node) == [pid]
        assert one_node.stage(ID, "a")["pid"] == pid
    one_node.coord("stop", ID)
    assert _stages(one_node) == []


def test_dead_letters_outlive_stop_and_redeployment_and_go_with_delete(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    mended = tmp_path / "mended"
    body = f"""import pathlib
    if data["n"] % 5 == 0 and not pathlib.Path({str(mended)!r}).exists():
        raise ValueError("five")
    return data"""
    one_node.coord("submit", _document(tmp_path, broker.port, body))
    with Collector(broker.port, "steady/2") as collector:
        publish(broker.port, "steady/1", [b'{"n": %d}' % n for n in range(20)])
        wait_for("the good ones", lambda: len(collector.numbers()) == 16)
        wait_for("four letters", lambda: len(_letters(one_node)) == 4)
        one_node.coord("stop", ID)
        assert len(_letters(one_node)) == 4, "without any copy"
        one_node.coord("submit", _document(tmp_path, broker.port, body + "  # again"))
        assert len(_letters(one_node)) == 4, "under another digest"
        mended.touch()
        one_node.coord("dead-letters", ID, "replay", "--all")
        wait_for("all of them", lambda: sorted(collector.numbers()) == list(range(20)))
        wait_for("none is left", lambda: _letters(one_node) == [])
    file = one_node.folder / "edge_node" / "dead-letters" / ID / f"{ID}.db"
    assert file.exists()
    one_node.coord("delete", ID)
    wait_for("gone with the deployment", lambda: not file.exists())


def _letters(cluster: Cluster) -> list[Any]:
    found: list[Any] = json.loads(cluster.coord("dead-letters", ID, "--output", "json").stdout)
    return found
