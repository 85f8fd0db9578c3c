"""WebSocket queues through `coord`: sending, a new revision on the port of the former, a browser at the end."""

from __future__ import annotations

import json
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto, free_port
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]


def a_websocket(port: int, topic: str, **props: Any) -> dict[str, Any]:
    return {"connector": "websocket", "props": {"server": "127.0.0.1", "port": port, "topic": topic, **props}}


def came(collector: Collector, count: int) -> bool:
    return len(collector.records) == count


def submit(
    fleet: Cluster, folder: Path, stages: dict[str, Any], queues: dict[str, Any], infra: tuple[str, ...] = ()
) -> str:
    machines: dict[str, Any] = {name: {} for name in infra}
    document: dict[str, Any] = {"version": "1.0", "id": "ws", "pipeline": stages, "queues": queues}
    document |= {"infra": machines} if machines else {}
    return fleet.coord("submit", str(write_json(folder / "ws.json", document))).stdout


def test_records_are_sent_to_a_listening_reader_and_a_new_revision_takes_its_port(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    port = free_port()
    queues = {"in": a_websocket(port, "plant/raw"), "out": a_queue("ws/out", port=broker.port)}
    with Collector(broker.port, "ws/out") as collector:
        for version, name in ((1, "a"), (2, "a"), (3, "renamed")):
            write_code(tmp_path / "code", f"def handler(data):\n    return {{'v': {version}, **data}}\n")
            told = submit(one_node, tmp_path, {name: a_stage("in", "out")}, queues)
            assert "weaker: a foreign writer gets no acknowledgement" in " ".join(told.split())
            records = "".join(json.dumps({"n": version * 100 + n}) + "\n" for n in range(30))
            assert "30 records confirmed" in one_node.coord("send", "ws", "-", input_=records).stderr
            with connect(f"ws://127.0.0.1:{port}/plant/raw", proxy=None) as browser:
                browser.send(json.dumps({"n": version * 100 + 30}))
                wait_for("all of this version", partial(came, collector, 31 * version))
        assert sorted((record["v"], record["n"]) for record in collector.records) == [
            (version, version * 100 + n) for version in (1, 2, 3) for n in range(31)
        ]
        one_node.coord("stop", "ws")
        socket.create_server(("127.0.0.1", port)).close()
        one_node.coord("delete", "ws")


def test_a_port_that_somebody_else_has_fails_the_submit_before_anything_is_replaced(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    write_code(tmp_path / "code", "def handler(data):\n    return data\n")
    queues = {"in": a_websocket(free_port(), "raw"), "out": a_queue("ws/out", port=broker.port)}
    submit(one_node, tmp_path, {"a": a_stage("in", "out")}, queues)
    queues["in"] = a_websocket(broker.port, "raw")
    document = {"version": "1.0", "id": "ws", "pipeline": {"a": a_stage("in", "out")}, "queues": queues}
    done = one_node.coord("submit", str(write_json(tmp_path / "ws.json", document)), check=False)
    assert done.returncode == 5
    assert f"cannot listen on port {broker.port} of this machine" in done.stderr + done.stdout
    assert one_node.stage("ws", "a")["state"] == "ready"


def test_a_browser_reads_what_two_linked_nodes_make(tmp_path: Path, broker: Mosquitto, fleet: Cluster) -> None:
    link, door = free_port(), free_port()
    write_code(tmp_path / "code", "def handler(data):\n    return {**data, 'seen': data.get('seen', 0) + 1}\n")
    stages = {
        "a": a_stage("in", "link", infra="edge_node"),
        "b": a_stage("link", "browser", infra="cloud_1"),
    }
    queues = {
        "in": a_queue("ws/in", port=broker.port),
        "link": a_websocket(link, "link"),
        "browser": a_websocket(door, "live", role="listen"),
    }
    told = " ".join(submit(fleet, tmp_path, stages, queues, ("edge_node", "cloud_1")).split())
    assert "at least once, by an acknowledged link" in told
    assert "with no reader connected a record is gone" in told
    with connect(f"ws://127.0.0.1:{door}/live", proxy=None) as browser:
        fleet.coord("send", "ws", "-", input_='{"n": 1}\n{"n": 2}\n')
        assert [json.loads(browser.recv(10)) for _ in range(2)] == [{"n": n, "seen": 2} for n in (1, 2)]
    fleet.coord("send", "ws", "-", input_='{"n": 3}\n')
    wait_for("what nobody read is counted", lambda: fleet.stage("ws", "b")["unrouted"] == 1)
