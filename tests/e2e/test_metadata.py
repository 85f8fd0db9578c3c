"""What travels beside a record, and `props.metadata`, through real agents."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIME_MS = 1_700_000_000_123
WHERE = """import os
def handler(data):
    told = data["_meta"]
    if "gate" in told["headers"] and not os.path.exists(told["headers"]["gate"]):
        raise ValueError("closed")
    return {"n": data["n"], **told}
"""


def _letters(cluster: Cluster) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(cluster.coord("dead-letters", "m", "show", "--output", "json").stdout)
    return rows


def test_each_record_says_which_of_many_topics_it_came_by(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    write_code(tmp_path / "code", WHERE)
    document = {
        "version": "1.0",
        "id": "m",
        "pipeline": {"where": a_stage("in", "out", **{"on-error": {"retries": 0, "then": "dead-letter"}})},
        "queues": {
            "in": a_queue("plant/+/raw", port=broker.port, metadata="_meta"),
            "out": a_queue("told", port=broker.port),
        },
    }
    one_node.coord("submit", str(write_json(tmp_path / "pipeline.json", document)))
    gate = tmp_path / "gate"
    with Collector(broker.port, "told") as told, Peer(broker.port) as peer:
        peer.publish("plant/oven/raw", b'{"n": 1}', fogline_time=str(TIME_MS), unit="K")
        peer.publish("plant/press/raw", b'{"n": 2, "_meta": "mine"}', gate=str(gate))
        peer.publish("plant/saw/raw", b'{"n": 3}', ident="an-id")
        wait_for("the first and the third", lambda: len(told.records) == 2)
        (letter,) = wait_for("the second as a letter", lambda: _letters(one_node))
        kept = json.loads(letter["payload"])
        assert kept["_meta"]["topic"] == "plant/press/raw"
        gate.touch()
        one_node.coord("dead-letters", "m", "replay", "--all")
        wait_for("the second", lambda: len(told.records) == 3)
    first, third, second = told.records
    time_ = "2023-11-14T22:13:20.123Z"
    headers = {"unit": "K", "other": "x"}
    assert first == {"n": 1, "topic": "plant/oven/raw", "key": None, "time": time_, "headers": headers}
    assert (third["n"], third["topic"], third["headers"]) == (3, "plant/saw/raw", {"other": "x"})
    assert second == {"n": 2, **kept["_meta"]}


def test_time_and_trace_of_the_origin_reach_the_last_queue(tmp_path: Path, broker: Mosquitto, fleet: Cluster) -> None:
    """Over a declared queue, an automatic one with its envelopes, and a link within a process."""
    write_code(tmp_path / "code", "def handler(data):\n    return data\n")
    stages = {
        "a": a_stage("in", "middle", infra="edge_node"),
        "b": a_stage("middle", "c", infra="edge_node"),
        "c": a_stage("b", "d", infra="cloud_1"),
        "d": a_stage("c", "out", infra="cloud_1"),
    }
    queues = {name: a_queue(f"m/{name}", port=broker.port) for name in ("in", "middle", "out")}
    infra: dict[str, Any] = {"edge_node": {}, "cloud_1": {}}
    document = {"version": "1.0", "id": "m", "pipeline": stages, "queues": queues, "infra": infra}
    fleet.coord("submit", str(write_json(tmp_path / "pipeline.json", document)))
    earliest_ms = time.time_ns() // 1_000_000
    with Peer(broker.port) as peer:
        peer.subscribe("m/out")
        peer.publish("m/in", b'{"n":1}', ident="first", fogline_time=str(TIME_MS), traceparent=TRACE)
        fleet.coord("send", "m", "-", input_='{"n":2}\n')
        peer.until(2)
    found = [dict(pairs) for pairs in peer.headers]
    given = {"fogline-id": "first/a/0/b/0/c/0/d/0", "fogline-time": str(TIME_MS), "traceparent": TRACE}
    (sent,) = (each for each in found if each != given)
    assert given in found
    assert set(sent) == {"fogline-id", "fogline-time"}
    assert earliest_ms <= int(sent["fogline-time"]) <= time.time_ns() // 1_000_000
