"""What stays at the broker: sessions after a stop, nothing after a delete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.results.collector import Collector
from support.results.producer import publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]


def _document(folder: Path, port: int) -> str:
    write_code(folder / "code", "def handler(data):\n    return data\n")
    queues = {f"q{n}": a_queue(f"kept/{n}", port=port) for n in (1, 2)}
    document = {"version": "1.0", "id": "kept", "pipeline": {"a": a_stage("q1", "q2")}, "queues": queues}
    return str(write_json(folder / "p.json", document))


def test_a_revision_that_reads_another_topic_leaves_nothing_of_the_former_behind(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    path = _document(tmp_path, broker.port)
    document = json.loads(Path(path).read_text())
    with Collector(broker.port, "kept/2") as collector:
        one_node.coord("submit", path)
        document["queues"]["q1"]["props"]["topic"] = "kept/other"
        one_node.coord("submit", str(write_json(Path(path), document)))
        publish(broker.port, "kept/1", [b'{"n": 1}'])
        publish(broker.port, "kept/other", [b'{"n": 2}'])
        wait_for("what came on the new topic", lambda: len(collector.records) >= 1)
        one_node.coord("stop", "kept")
        publish(broker.port, "kept/other", [b'{"n": 3}', b'{"n": 4}'])
        document["queues"]["q1"]["props"]["topic"] = "kept/1"
        one_node.coord("submit", str(write_json(Path(path), document)))
        publish(broker.port, "kept/1", [b'{"n": 5}'])
        wait_for("what came on the former topic again", lambda: len(collector.records) >= 2)
    assert [record["n"] for record in collector.records] == [2, 5]


def test_what_comes_while_stopped_waits_and_after_a_delete_it_does_not(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    document = _document(tmp_path, broker.port)
    with Collector(broker.port, "kept/2") as collector:
        one_node.coord("submit", document)
        one_node.coord("stop", "kept")
        publish(broker.port, "kept/1", [b'{"n": 1}', b'{"n": 2}'])
        one_node.coord("submit", document)
        wait_for("what came meanwhile", lambda: len(collector.records) == 2)
        one_node.coord("delete", "kept")
        publish(broker.port, "kept/1", [b'{"n": 3}'])
        one_node.coord("submit", document)
        publish(broker.port, "kept/1", [b'{"n": 4}'])
        wait_for("what came after", lambda: len(collector.records) == 3)
    assert [record["n"] for record in collector.records] == [1, 2, 4]
