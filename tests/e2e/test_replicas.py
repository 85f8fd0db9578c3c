"""Copies of a stage: they share the load, come and go under it, and each node that joins gets one of its own."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, cluster, wait_for, write_json
from support.documents import a_queue, a_stage
from support.kafka import Kafka
from support.mosquitto import Mosquitto
from support.results import pipelines
from support.results.collector import Collector
from support.results.kafka_ends import KafkaCollector, KafkaProducer
from support.results.producer import Producer, publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(240)]

RECORDS, RATE = 8_000, 400.0


def scaled(folder: Path, replicas: int | str, queues: dict[str, Any], **stage: Any) -> str:
    """The document of one stage with so many copies."""
    pipelines.code(folder, "a", "time.sleep(0.0005)")
    made = a_stage("q1", "q2", props={"path": "./a"}, replicas=replicas, **stage)
    document = {"version": "1.0", "id": pipelines.ID, "pipeline": {"a": made}, "queues": queues}
    return str(write_json(folder / f"pipeline-{replicas}.json", document))


def mqtt(port: int) -> dict[str, Any]:
    return {"q1": a_queue("numbered/1", port=port), "q2": a_queue("numbered/2", port=port)}


def over_kafka(port: int) -> dict[str, Any]:
    place = {"server": "127.0.0.1", "port": port}
    reads = {"connector": "kafka", "props": place | {"topic": "numbered.1", "partitions": 4}}
    return {"q1": reads, "q2": {"connector": "kafka", "props": place | {"topic": "numbered.2"}}}


def row(fleet: Cluster) -> dict[str, Any]:
    return fleet.stage(pipelines.ID, "a")


def scale_under_load(fleet: Cluster, submit: Callable[[int], str], producer: Producer | KafkaProducer) -> None:
    """1 -> 3 -> 1 while records come; all three copies worked."""
    with producer:
        wait_for("the load has begun", lambda: len(producer.confirmed) > 200)
        fleet.coord("submit", submit(3))
        wait_for("three copies work", lambda: [c["done"] > 0 for c in row(fleet).get("copies", [])] == [True] * 3)
        fleet.coord("submit", submit(1))
        assert "copies" not in row(fleet)
        producer.wait(RECORDS / RATE + 60.0)


def all_came(collector: Collector, records: int = RECORDS) -> None:
    """Every record is there with the contents it must have, whatever came twice."""
    expected = {json.dumps(pipelines.through("a")(n).record, separators=(",", ":"), ensure_ascii=False).encode()
                for n in range(records)}  # fmt: skip
    wait_for("every record", lambda: collector.distinct >= records, 60.0)
    assert set(collector.payloads) == expected
    print(f"{len(collector.payloads) - records} came again")


def test_nothing_is_lost_when_copies_come_and_go_over_mqtt(
    tmp_path: Path, quiet_broker: Mosquitto, fleet: Cluster
) -> None:
    queues = mqtt(quiet_broker.port)
    fleet.coord("submit", scaled(tmp_path, 1, queues))
    with Collector(quiet_broker.port, "numbered/2") as collector:
        producer = Producer(quiet_broker.port, "numbered/1", pipelines.payload, RECORDS, RATE)
        scale_under_load(fleet, lambda count: scaled(tmp_path, count, queues), producer)
        all_came(collector)


def test_nothing_is_lost_when_copies_come_and_go_over_kafka(tmp_path: Path, own_kafka: Kafka, fleet: Cluster) -> None:
    queues = over_kafka(own_kafka.port)
    fleet.coord("submit", scaled(tmp_path, 1, queues))
    with KafkaCollector(own_kafka.server, "numbered.2") as collector:
        producer = KafkaProducer(own_kafka.server, "numbered.1", pipelines.payload, RECORDS, RATE)
        scale_under_load(fleet, lambda count: scaled(tmp_path, count, queues), producer)
        all_came(collector)


def test_a_copy_that_was_killed_with_its_node_is_drained_from_another(
    tmp_path: Path, quiet_broker: Mosquitto, fleet: Cluster
) -> None:
    """What the broker gave to an absent member waits for its name, wherever that comes back."""
    queues = mqtt(quiet_broker.port)
    pinned = {"infra": "edge_node"}
    document = json.loads(Path(scaled(tmp_path, 2, queues, **pinned)).read_text())
    path = write_json(tmp_path / "pinned.json", document | {"infra": {"edge_node": {}}})
    fleet.coord("submit", str(path))
    with Collector(quiet_broker.port, "numbered/2") as collector:
        stop = threading.Event()
        killing = threading.Thread(target=kill_often, args=(fleet, stop))
        with Producer(quiet_broker.port, "numbered/1", pipelines.payload, 3000, 600.0) as producer:
            killing.start()
            producer.wait(60.0)
        stop.set()
        killing.join()
        moved = document | {"infra": {"edge_node": {"hostname": "cloud_1"}}}
        fleet.coord("submit", str(write_json(tmp_path / "moved.json", moved)))
        assert {copy["node"] for copy in row(fleet)["copies"]} == {"cloud_1"}
        all_came(collector, 3000)


def kill_often(fleet: Cluster, stop: threading.Event) -> None:
    while not stop.wait(0.8):
        pids = [copy["pid"] for copy in row(fleet).get("copies", []) if copy["pid"]]
        if pids:
            os.kill(pids[-1], signal.SIGKILL)


def test_each_admitted_node_has_a_copy_with_a_topic_of_its_own_and_so_has_one_that_joins(
    tmp_path: Path, broker: Mosquitto
) -> None:
    queues = {
        "q1": a_queue("plant/{node.label.line}/raw", port=broker.port),
        "q2": a_queue("plant/{node.name}/out", port=broker.port),
    }
    path = scaled(tmp_path, "each", queues, constraints={"node": {"role": "gateway"}})
    with cluster(tmp_path / "cluster") as fleet:
        for name, line in (("gw-1", "north"), ("gw-2", "south")):
            fleet.start_agents(name, labels={"role": "gateway", "line": line})
        fleet.start_agents("server")
        planned = fleet.coord("plan", path).stdout
        assert "server: has no label role=gateway" in planned
        fleet.coord("submit", path)
        assert [copy["node"] for copy in row(fleet)["copies"]] == ["gw-1", "gw-2"]
        fleet.start_agents("gw-3", labels={"role": "gateway", "line": "west"})
        wait_for("the third has its copy", lambda: [c["state"] for c in row(fleet)["copies"]] == ["ready"] * 3)
        with Collector(broker.port, "plant/+/out") as collector:
            for number, line in enumerate(("north", "south", "west")):
                publish(broker.port, f"plant/{line}/raw", [pipelines.payload(number)])
            wait_for("one record of each", lambda: collector.distinct == 3)
        assert sorted(record["n"] for record in collector.records) == [0, 1, 2]
        assert {copy["node"]: copy["done"] for copy in settled(fleet)["copies"]} == {"gw-1": 1, "gw-2": 1, "gw-3": 1}
        assert "unchanged" in fleet.coord("submit", path).stdout
        shown = fleet.coord("status", pipelines.ID).stdout
        assert "3 copies" in shown
        assert "a/gw-3" in shown


def settled(fleet: Cluster) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        found = row(fleet)
        return found if found["done"] == 3 else None

    found: dict[str, Any] = wait_for("counters", done)
    return found


def test_a_gateway_that_is_away_is_named_and_served_when_it_is_back(tmp_path: Path, broker: Mosquitto) -> None:
    queues = {"q1": a_queue("{node.name}/raw", port=broker.port), "q2": a_queue("{node.name}/out", port=broker.port)}
    path = scaled(tmp_path, "each", queues)
    with cluster(tmp_path / "cluster", "gw-1", "gw-2") as fleet:
        fleet.agents["gw-2"].end()
        wait_for("it is away", lambda: fleet.connected() == {"gw-1"})
        fleet.coord("submit", path)
        found = fleet.status(pipelines.ID)
        assert found["state"] == "running"
        assert found["reason"] == "not connected, and served when they come back: gw-2"
        fleet.agents["gw-2"].start()
        wait_for("it is served", lambda: [copy["state"] for copy in row(fleet)["copies"]] == ["ready", "ready"])
        wait_for("nobody is named", lambda: fleet.status(pipelines.ID)["reason"] == "")
