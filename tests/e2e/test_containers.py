"""Segments in containers, end to end: built on the node, offline, from what the coordinator's store holds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.agent_builders import lives
from support.boxed import boxes, document, ready
from support.certificates import certify
from support.cluster import BIN, Cluster, wait_for, write_json
from support.containers import IN_CONTAINERS
from support.endpoints import HOST, an_api, ask, code, free_range
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer

pytestmark = [*IN_CONTAINERS, pytest.mark.timeout(180)]
NODE = "edge_node"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path / "c")
    try:
        running.start_agents(NODE, environments="store")
        yield running
    finally:
        running.close()


def images(kind: str, node: Cluster) -> set[str]:
    ours = f"label=fogline.state-dir={node.folder / NODE}"
    listing = ["docker", "images", "--format", "{{.Tag}}", "--filter", ours, f"fogline/{kind}"]
    return set(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split())


def test_models_in_containers(tmp_path: Path, node: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        path = document(tmp_path, broker.port, resources={"memory": "512MB", "cpus": 0.5})
        node.coord("submit", str(path))
        wait_for("it is ready", lambda: ready(node))
        (box,) = boxes(node)
        is_confined(box)
        assert box["HostConfig"]["Memory"] == box["HostConfig"]["MemorySwap"] == 512_000_000
        assert box["HostConfig"]["NanoCpus"] == 500_000_000
        with Peer(broker.port) as peer:
            peer.subscribe("boxed/out").publish("boxed/in", b'{"x": [3, 4]}')
            wait_for("it answers", lambda: peer.payloads)
            assert b'"y":7.0' in peer.payloads[0]
        assert " ready" in node.coord("logs", "boxed").stdout
        outlives_ten_agents(node, box, broker.port)
        second_s = shares_its_layers(node, path, box)
        with capsys.disabled():
            print(f"\n  a second segment with the same lock was built in {second_s} s")
        node.coord("delete", "boxed")
        node.coord("delete", "second")
        wait_for("nothing of them is left", lambda: not boxes(node) and not images("segment", node))
        assert images("environment", node), "it may be needed again"
        state = ["--state-dir", str(node.folder / NODE)]
        subprocess.run([BIN / "fogline-agent", "prune", *state], check=True, capture_output=True)
        assert not images("environment", node)


def test_an_endpoint_in_a_container_has_token_and_certificate(tmp_path: Path) -> None:
    first, last = free_range(2)
    tls = certify(tmp_path / "c" / NODE / "tls", trustme.CA(), HOST)
    secret = tmp_path / "c" / NODE / "secrets" / "callers"
    secret.parent.mkdir()
    secret.touch(mode=0o600)
    secret.write_text("s3cret")
    props = {"auth": "token", "token": {"secret": "callers"}}
    stage = code(tmp_path / "code", "def handler(data):\n    return data + 1\n", props=props)
    path = write_json(tmp_path / "p.json", an_api("boxed-api", {"add": stage}, containerized=True))
    running = Cluster(tmp_path / "c")
    try:
        running.start_agents(NODE, environments="store", flags=["--ports", f"{first}-{last}"])
        running.coord("submit", str(path))
        assert ask(f"https://{HOST}:{first}", 1, token="s3cret", ca=tls / "ca.pem") == (200, 2)
        assert running.coord("predict", "boxed-api", "-d", "2").stdout == "3\n"
        running.coord("delete", "boxed-api")
        wait_for("nothing of it is left", lambda: not boxes(running))
        state = ["--state-dir", str(running.folder / NODE)]
        subprocess.run([BIN / "fogline-agent", "prune", *state], check=True, capture_output=True)
    finally:
        running.close()


def shares_its_layers(node: Cluster, path: Path, box: dict[str, Any]) -> float:
    """A second segment with the same lock is another image on the same environment; how long it took to build."""
    other = json.loads(path.read_text()) | {"id": "second"}
    other["pipeline"] = {"other": other["pipeline"]["judge"]}
    node.coord("submit", str(write_json(path.with_name("q.json"), other)))
    (second,) = (each for each in boxes(node) if each["Id"] != box["Id"])
    layers = [
        json.loads(subprocess.check_output(["docker", "inspect", each["Image"]]))[0]["RootFS"]["Layers"]
        for each in (box, second)
    ]
    assert box["Image"] != second["Image"]
    assert layers[0][:2] == layers[1][:2], "base and environment"
    built = re.findall(r"fogline/segment:\w+: built in ([\d.]+) s", node.agents[NODE].log)
    assert float(built[-1]) <= 3.0
    return float(built[-1])


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
    mounted = {each["Destination"]: Path(each["Source"]) for each in box["Mounts"]}
    assert set(mounted) == {"/workspace", "/dead-letters"}
    assert mounted["/dead-letters"].parts[-2:] == ("dead-letters", "boxed"), "its own alone"
    asked = ["docker", "exec", box["Id"], *config["Healthcheck"]["Test"][1:]]
    assert subprocess.run(asked, check=False).returncode == 0, "it is healthy by its own word"


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
    (same,) = boxes(node)
    assert (same["Id"], same["State"]["Pid"]) == (box["Id"], box["State"]["Pid"])
    assert node.stage("boxed", "judge")["restarts"] == 0
    assert lives(box["State"]["Pid"])
