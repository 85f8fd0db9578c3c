"""Segments in containers, end to end: built on the node, offline, from what the coordinator's store holds."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_builders import lives
from support.cluster import Cluster, wait_for, write_json
from support.containers import needs_engine
from support.documents import a_queue
from support.models import a_summing_model
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer

pytestmark = [pytest.mark.e2e, needs_engine, pytest.mark.timeout(180)]
NODE = "edge_node"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path / "c")
    try:
        running.start_agents(NODE, environments="store")
        yield running
    finally:
        running.close()


def document(folder: Path, port: int, **changes: Any) -> Path:
    (folder / "model.onnx").write_bytes(a_summing_model(folder))
    props = {"path": "./model.onnx", "input": "x", "output": "y"}
    stage = {"type": "model", "framework": "onnx", "props": props, "queues": {"input": "in", "output": "out"}}
    queues = {name: a_queue(f"boxed/{name}", port=port) for name in ("in", "out")}
    made = {"version": "1.0", "id": "boxed", "containerized": True, "queues": queues}
    return write_json(folder / "p.json", made | {"pipeline": {"judge": stage | changes}})


def containers(*more: str) -> list[dict[str, Any]]:
    ids = subprocess.run(
        ["docker", "ps", "-aq", "--filter", "label=fogline.assignment", *more], capture_output=True, text=True
    ).stdout.split()
    if not ids:
        return []
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(["docker", "inspect", *ids]))
    return found


def ready(node: Cluster) -> bool:
    return bool(node.stage("boxed", "judge")["state"] == "ready")


def test_a_model_in_a_container(tmp_path: Path, node: Cluster) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        node.coord("submit", str(document(tmp_path, broker.port, resources={"memory": "512MB", "cpus": 0.5})))
        wait_for("it is ready", lambda: ready(node))
        (box,) = containers()
        is_confined(box)
        assert box["HostConfig"]["Memory"] == box["HostConfig"]["MemorySwap"] == 512_000_000
        assert box["HostConfig"]["NanoCpus"] == 500_000_000
        with Peer(broker.port) as peer:
            peer.subscribe("boxed/out").publish("boxed/in", b'{"x": [3, 4]}')
            wait_for("it answers", lambda: peer.payloads)
            assert b'"y":7.0' in peer.payloads[0]
        assert " ready" in node.coord("logs", "boxed").stdout
        outlives_ten_agents(node, box, broker.port)
        node.coord("delete", "boxed")
        wait_for("its container is gone", lambda: not containers())


def images() -> set[str]:
    listed = subprocess.run(["docker", "images", "-q", "fogline/segment"], capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def test_segments_with_one_lock_share_its_layers_and_leave_nothing(
    tmp_path: Path, node: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        before = images()
        path = document(tmp_path, broker.port)
        node.coord("submit", str(path))
        other = json.loads(path.read_text()) | {"id": "second"}
        other["pipeline"] = {"other": other["pipeline"]["judge"]}
        began = time.monotonic()
        node.coord("submit", str(write_json(tmp_path / "q.json", other)))
        both_s = time.monotonic() - began
        boxes = containers()
        assert len(boxes) == len({box["Image"] for box in boxes}) == 2
        layers = [
            json.loads(subprocess.check_output(["docker", "inspect", box["Image"]]))[0]["RootFS"]["Layers"]
            for box in boxes
        ]
        assert layers[0][:2] == layers[1][:2], "base and environment"
        with capsys.disabled():
            print(f"\n  the second segment with one lock was submitted, built, checked and ready in {both_s:.1f} s")
        node.coord("delete", "boxed")
        node.coord("delete", "second")
        wait_for("nothing of them is left", lambda: not containers() and images() <= before)


def is_confined(box: dict[str, Any]) -> None:
    host, config = box["HostConfig"], box["Config"]
    assert config["User"] not in {"", "0", "root"}
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] > 0
    status = Path(f"/proc/{box['State']['Pid']}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert config["Labels"]["fogline.segment"] == "judge"


def outlives_ten_agents(node: Cluster, box: dict[str, Any], port: int) -> None:
    """Each is killed; what was sent while none was there is answered, and the container is the same."""
    agent = node.agents[NODE]
    with Peer(port) as peer:
        peer.subscribe("boxed/out")
        for number in range(10):
            agent.end(signal.SIGKILL)
            peer.publish("boxed/in", json.dumps({"x": [number, 1]}).encode())
            agent.start()
        wait_for("all are answered", lambda: len(peer.payloads) >= 10)
        assert {json.loads(each)["y"] for each in peer.payloads} == {float(number + 1) for number in range(10)}
    wait_for("the last agent has it", lambda: NODE in node.connected() and ready(node))
    (same,) = containers()
    assert (same["Id"], same["State"]["Pid"]) == (box["Id"], box["State"]["Pid"])
    assert node.stage("boxed", "judge")["restarts"] == 0
    assert lives(box["State"]["Pid"])
