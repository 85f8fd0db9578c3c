"""Another client reads under a stage's name: the stage gives way, and comes back when the coordinator says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]


def test_a_stage_whose_reader_was_taken_over_is_called_back_once(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    write_code(tmp_path / "a", "def handler(data):\n    return data\n")
    queues = {"q1": a_queue("in", port=broker.port), "q2": a_queue("out", port=broker.port)}
    stages = {"a": a_stage("q1", "q2", props={"path": "./a"})}
    document = {"version": "1.0", "id": "taken", "pipeline": stages, "queues": queues}
    one_node.coord("submit", str(write_json(tmp_path / "pipeline.json", document)))
    before = one_node.stage("taken", "a")["pid"]
    cluster = (one_node.folder / "coordinator" / "cluster-id").read_text()[:8]
    with Peer(broker.port, client_id=f"fogline.{cluster}.taken.a.q1.0", kept_s=60):
        wait_for("it is called back", lambda: "called back" in one_node.coord("events", "taken").stdout, 90.0)
    wait_for("it reads again", lambda: one_node.status("taken")["state"] == "running", 60.0)
    assert one_node.stage("taken", "a")["pid"] != before
    assert one_node.coord("events", "taken").stdout.count("called back") == 1
    with Peer(broker.port) as reader:
        reader.subscribe("out")
        one_node.coord("send", "taken", "-", input_="1\n")
        reader.until(1)
