"""The life of a deployment with real agents: followed over a killed agent, stopped, started, told, compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.cluster import BIN, Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]


def _two(folder: Path, port: int) -> str:
    """a -> b over a queue: two segments; a prints every record."""
    write_code(folder / "a", "def handler(data):\n    print('saw', data)\n    return data\n")
    write_code(folder / "b", "def handler(data):\n    return data\n")
    stages = {"a": a_stage("q1", "q2", props={"path": "./a"}), "b": a_stage("q2", "q3", props={"path": "./b"})}
    queues = {f"q{n}": a_queue(f"life/{n}", port=port) for n in (1, 2, 3)}
    document: dict[str, Any] = {"version": "1.0", "id": "life", "pipeline": stages, "queues": queues}
    return str(write_json(folder / "pipeline.json", document))


def test_a_log_is_followed_over_a_killed_agent(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    one_node.coord("submit", _two(tmp_path, broker.port))
    pids = {row["pid"] for row in one_node.status("life")["stages"]}
    out, err = tmp_path / "followed", tmp_path / "said"
    argv = [str(BIN / "coord"), "logs", "life", "-f", "--coordinator", one_node.address]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        following = subprocess.Popen(argv, stdout=stdout, stderr=stderr)
    one_node.coord("send", "life", "-", input_="1\n2\n")
    wait_for("two lines", lambda: "a | saw 2" in out.read_text())
    agent = one_node.agents["edge_node"]
    os.kill(agent.pid, signal.SIGKILL)
    wait_for("it is told", lambda: "node edge_node is away" in err.read_text())
    agent.end()
    agent.start()
    wait_for("it is back", lambda: "node edge_node is back" in err.read_text())
    one_node.coord("send", "life", "-", input_="3\n")
    wait_for("the third line", lambda: "a | saw 3" in out.read_text())
    saw = [line for line in out.read_text().splitlines() if line.startswith("a | saw")]
    assert saw == ["a | saw 1", "a | saw 2", "a | saw 3"], "nothing lost, nothing twice"
    assert any(line.startswith("b | ") for line in out.read_text().splitlines())
    assert {row["pid"] for row in one_node.status("life")["stages"]} == pids
    told = one_node.coord("events", "--output", "json").stdout
    assert [each["text"] for each in json.loads(told) if each["kind"] == "node"] == [
        "joined",
        "away: its session ended",
        "connected again",
    ]
    one_node.coord("stop", "life")
    assert following.wait(30) == 0, "it ends with the deployment"


def test_stopped_started_compared_and_told(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    document = _two(tmp_path, broker.port)
    one_node.coord("submit", document)
    assert json.loads(one_node.coord("get", "life").stdout) == json.loads(Path(document).read_text())
    assert one_node.coord("diff", document).stdout == ""
    write_code(tmp_path / "b", "def handler(data):\n    return {'new': data}\n")
    other = one_node.coord("diff", document, check=False)
    assert other.returncode == 1
    changes = [line.split() for line in other.stdout.splitlines()]
    assert ["a", "kept", "edge_node", "edge_node"] in changes
    assert ["b", "restarted", "edge_node", "edge_node"] in changes
    one_node.coord("stop", "life")
    started = one_node.coord("start", "life")
    assert "pipeline life: running" in started.stdout
    assert {row["state"] for row in one_node.status("life")["stages"]} == {"ready"}
    before = {row["name"]: row["pid"] for row in one_node.status("life")["stages"]}
    assert "restarted" in one_node.coord("restart", "life", "b").stdout
    after = {row["name"]: row["pid"] for row in one_node.status("life")["stages"]}
    assert (after["a"] == before["a"], after["b"] == before["b"]) == (True, False)
    last = one_node.coord("logs", "life", "a", "--tail", "1").stdout
    assert len(last.splitlines()) == 1
    since = one_node.coord("logs", "life", "a", "--since", "2030-01-01").stdout
    assert since == ""
    states = [row["state"] for row in json.loads(one_node.coord("history", "life", "-o", "json").stdout)]
    assert states[-1] == "running"
    kinds = [each["kind"] for each in json.loads(one_node.coord("events", "life", "-o", "json").stdout)]
    assert [kind for kind in kinds if kind in {"submitted", "stop", "start", "verdict"}] == [
        "submitted",
        "verdict",
        "stop",
        "start",
        "verdict",
    ]
