"""What a person types after a submit, and the shapes other tools build on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.cluster import BIN, Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

STAGE_KEYS = {
    "name", "segment", "node", "state", "pid", "in", "out", "done", "filtered", "dead_lettered", "dropped",
    "in_flight", "redelivered",
}  # fmt: skip


def _fused(folder: Path, port: int, **changes: Any) -> Path:
    """double -> even, joined in memory; even keeps multiples of four."""
    write_code(folder / "double", "def handler(data):\n    print('seen', data['n'])\n    return {'n': data['n'] * 2}\n")
    write_code(folder / "even", "def handler(data):\n    return data if data['n'] % 4 == 0 else None\n")
    document = {
        "version": "1.0",
        "id": "fused",
        "pipeline": {
            "double": a_stage("in", "even", props={"path": "./double"}),
            "even": a_stage("double", "out", props={"path": "./even"}),
        },
        "queues": {"in": a_queue("fused/in", port=port), "out": a_queue("fused/out", port=port)},
    }
    return write_json(folder / "pipeline.json", document | changes)


def test_the_life_of_a_deployment(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    document = str(_fused(tmp_path, broker.port))
    plan = json.loads(one_node.coord("plan", document, "--output", "json").stdout)
    assert [(each["name"], each["stages"], each["node"]) for each in plan["segments"]] == [
        ("double", ["double", "even"], "edge_node")
    ]
    assert {link["name"] for link in plan["links"]} == {"in", "out", "double..even"}
    submitted = json.loads(one_node.coord("submit", document, "--output", "json").stdout)
    assert (submitted["revision"], submitted["state"], submitted["succeeded"]) == (1, "running", True)
    pid = one_node.stage("fused", "double")["pid"]

    again = json.loads(one_node.coord("submit", document, "--output", "json").stdout)
    assert (again["revision"], again["unchanged"], again["succeeded"]) == (1, True, True)
    assert one_node.stage("fused", "double")["pid"] == pid

    with Collector(broker.port, "fused/out") as collector:
        sent = one_node.coord("send", "fu", "-", input_="".join(f'{{"n": {n}}}\n' for n in range(10)))
        assert "10 records confirmed" in sent.stderr
        wait_for("the even ones", lambda: len(collector.records) >= 5)
    assert [record["n"] for record in collector.records] == [0, 4, 8, 12, 16]
    status = one_node.status("fused")
    assert (status["id"], status["revision"], status["state"]) == ("fused", 1, "running")
    rows = {row["name"]: row for row in status["stages"]}
    assert all(row.keys() >= STAGE_KEYS for row in rows.values())
    assert (rows["double"]["in"], rows["double"]["done"], rows["double"]["out"]) == (10, 10, 10)
    assert (rows["even"]["in"], rows["even"]["done"], rows["even"]["filtered"], rows["even"]["out"]) == (10, 5, 5, 5)
    assert rows["even"]["unrouted"] == 0, "somebody foreign read them all"
    assert "seen 9" in one_node.coord("logs", "fused", "dou").stdout

    stopped = one_node.coord("stop", "fused")
    assert "pipeline fused: stopped" in stopped.stdout
    assert {row["state"] for row in one_node.status("fused")["stages"]} == {"stopped"}
    revived = json.loads(one_node.coord("submit", document, "--output", "json").stdout)
    assert (revived["revision"], revived["state"]) == (2, "running")
    one_node.coord("delete", "fused")
    assert json.loads(one_node.coord("list", "--output", "json").stdout) == []
    gone = one_node.coord("status", "fused", check=False)
    assert (gone.returncode, gone.stderr) == (3, "coord: there is no deployment 'fused'; known: none\n")


def test_a_tap_sees_links_in_memory_and_leaves_the_flow_alone(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    one_node.coord("submit", str(_fused(tmp_path, broker.port)))
    argv = [str(BIN / "coord"), "tap", "fused", "double..even", "--count", "3", "--coordinator", one_node.address]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as tap:

        def fed() -> bool:
            one_node.coord("send", "fused", "-", input_='{"n": 7}\n')
            return tap.poll() is not None

        wait_for("three tapped records", fed)
        assert tap.stdout is not None
        assert [json.loads(line) for line in tap.stdout] == [{"n": 14}] * 3
    assert tap.returncode == 0
    row = one_node.stage("fused", "even")
    assert row["in"] == row["filtered"]


def test_a_changed_stage_replaces_only_its_own_segment(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    for name in "ab":
        write_code(tmp_path / name, "def handler(data):\n    return data\n")
    stages = {
        "a": a_stage("q1", "q2", props={"path": "./a"}),
        "b": a_stage("q2", "q3", props={"path": "./b"}),
    }
    queues = {f"q{n}": a_queue(f"two/{n}", port=broker.port) for n in (1, 2, 3)}
    document = write_json(tmp_path / "p.json", {"version": "1.0", "id": "two", "pipeline": stages, "queues": queues})
    one_node.coord("submit", str(document))
    before = {row["name"]: row["pid"] for row in one_node.status("two")["stages"]}
    write_code(tmp_path / "b", "def handler(data):\n    return {'new': data}\n")
    with Collector(broker.port, "two/3") as collector:
        one_node.coord("submit", str(document))
        one_node.coord("send", "two", "-", input_="1\n")
        wait_for("the record", lambda: collector.records)
    after = {row["name"]: row["pid"] for row in one_node.status("two")["stages"]}
    assert collector.records == [{"new": 1}]
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]


def test_a_revision_that_cannot_be_prepared_leaves_the_former_running(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    document = str(_fused(tmp_path, broker.port))
    one_node.coord("submit", document)
    pid = one_node.stage("fused", "double")["pid"]
    write_code(tmp_path / "double", "import not_there\n\ndef handler(data):\n    return data\n")
    failed = one_node.coord("submit", document, check=False)
    assert failed.returncode == 5
    assert "not_there" in failed.stdout
    assert "revision 1 goes on running" in failed.stdout
    status = one_node.status("fused")
    assert (status["revision"], status["state"]) == (1, "running")
    assert one_node.stage("fused", "double")["pid"] == pid


def test_a_record_that_fails_for_good_stops_its_segment_unacknowledged(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    path = _fused(tmp_path, broker.port)
    stopping = json.loads(path.read_text())
    stopping["pipeline"]["double"]["on-error"] = {"then": "stop"}
    document = str(write_json(path, stopping))
    one_node.coord("submit", document)
    with Collector(broker.port, "fused/out") as collector:
        one_node.coord("send", "fused", "-", input_='{"n": 2}\n{"x": 1}\n{"n": 4}\n')
        wait_for("the segment failed", lambda: one_node.stage("fused", "double")["state"] == "failed")
        reason = one_node.stage("fused", "double")["reason"]
        assert "KeyError" in reason
        assert "'n'" in reason
        assert one_node.status("fused")["state"] == "degraded"
        write_code(tmp_path / "double", "def handler(data):\n    return {'n': data.get('n', 100) * 2}\n")
        one_node.coord("submit", document)
        wait_for("all three", lambda: len({record["n"] for record in collector.records}) >= 3)
    assert {record["n"] for record in collector.records} == {4, 200, 8}
