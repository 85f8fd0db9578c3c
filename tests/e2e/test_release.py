"""What stays at the broker: sessions after a stop, nothing after a delete."""

from __future__ import annotations

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
