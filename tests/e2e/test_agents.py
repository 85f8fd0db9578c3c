"""Agents and coordinator come and go: the stages stay, with their PIDs, and lose nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.numbered import Collector, publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

ID = "steady"


def _document(folder: Path, port: int, body: str = "return data") -> str:
    write_code(folder / "code", f"def handler(data):\n    {body}\n")
    queues = {f"q{n}": a_queue(f"steady/{n}", port=port) for n in (1, 2)}
    document = {"version": "1.0", "id": ID, "pipeline": {"a": a_stage("q1", "q2")}, "queues": queues}
    return str(write_json(folder / "p.json", document))


def _alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _stages(cluster: Cluster) -> list[int]:
    """PIDs of every segment process below the cluster's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _alive(int(entry.name)):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "-m fogline.runtimes run" in command and str(cluster.folder) in command and "shim.py" not in command:
                found.append(int(entry.name))
    return found


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
