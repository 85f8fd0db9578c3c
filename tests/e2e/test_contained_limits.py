"""What containers are refused, and what happens to one that takes too much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.boxed import boxes
from support.cluster import BIN, Cluster, cluster, wait_for, write_json
from support.containers import IN_CONTAINERS
from support.documents import a_queue
from support.endpoints import code, delete_all, stage_of
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer

pytestmark = [*IN_CONTAINERS, pytest.mark.timeout(120)]
EATS = "def handler(data):\n    kept = [bytearray(1 << 20) for _ in range(data['mb'])]\n    return {'mb': len(kept)}\n"
LIMITED = {"memory": "100MiB"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[Cluster]:
    """Two nodes, cloud_1 without an engine."""
    with cluster(tmp_path_factory.mktemp("limits") / "cluster") as started:
        started.start_agents("edge_node", environments="store")
        started.start_agents("cloud_1", environments="store", env={"DOCKER_HOST": "unix:///nowhere"})
        yield started


@pytest.fixture
def clean(site: Cluster) -> Iterator[Cluster]:
    """The same, with nothing deployed afterwards."""
    yield site
    delete_all(site)


def eaters(folder: Path, port: int, **changes: Any) -> dict[str, Any]:
    """Two stages apart from each other; each keeps as much as its records say."""
    queues = {name: a_queue(f"limits/{name}", port=port) for name in ("a-in", "a-out", "b-in", "b-out")}
    stages = {name: code(folder / name, EATS, f"{name}-in", f"{name}-out", infra="edge_node") for name in "ab"}
    for stage in stages.values():
        stage["resources"] = LIMITED
    raw = {"version": "1.0", "id": "eaters", "containerized": True, "queues": queues, "pipeline": stages}
    return raw | {"infra": {name: {"hostname": name} for name in ("edge_node", "cloud_1")}} | changes


def test_what_eats_too_much_is_killed_alone(clean: Cluster, tmp_path: Path, broker: Mosquitto) -> None:
    clean.coord("submit", str(write_json(tmp_path / "p.json", eaters(tmp_path, broker.port))))
    before = {box["Config"]["Labels"]["fogline.segment"]: box["State"]["Pid"] for box in boxes(clean, "eaters")}
    with Peer(broker.port) as peer:
        peer.subscribe("limits/b-out")
        peer.publish("limits/a-in", b'{"mb": 300}')
        told = "out of memory, its limit is 100 MiB"
        wait_for("it is told", lambda: told in clean.coord("status", "eaters").stdout)
        peer.publish("limits/b-in", b'{"mb": 5}')
        wait_for("its neighbour answers", lambda: peer.payloads == [b'{"mb":5}'])
    row = stage_of(clean, "eaters", "b")
    assert (row["state"], row["restarts"]) == ("ready", 0)
    os.kill(before["b"], 0)
    assert stage_of(clean, "eaters", "a")["restarts"] > 0


def test_a_node_without_engine_is_refused_when_it_is_planned(clean: Cluster, tmp_path: Path) -> None:
    raw = eaters(tmp_path, 1)
    raw["pipeline"]["a"]["infra"] = "cloud_1"
    path = write_json(tmp_path / "p.json", raw)
    for command in ("plan", "submit"):
        done = clean.coord(command, str(path), check=False)
        assert done.returncode == 4
        assert "stage a is pinned to node cloud_1, which has no container engine" in done.stderr
    assert json.loads(clean.coord("list", "--output", "json").stdout) == []


def test_a_run_in_containers_leaves_nothing_in_the_engine(tmp_path: Path, broker: Mosquitto, engine: str) -> None:
    raw = eaters(tmp_path, broker.port, id="short")
    del raw["infra"]
    with (tmp_path / "log").open("wb") as log:
        path = write_json(tmp_path / "p.json", raw)
        running = subprocess.Popen([BIN / "coord", "run", path], stdout=log, stderr=log)
    try:
        wait_for("it runs", lambda: "Ctrl-C ends it" in (tmp_path / "log").read_text() or running.poll() is not None)
        ids = docker("ps", "-q", "--filter", "label=fogline.pipeline=short").split()
        assert len(ids) == 2, (tmp_path / "log").read_text()
        folder = docker("inspect", "--format", '{{index .Config.Labels "fogline.state-dir"}}', ids[0]).strip()
        with Peer(broker.port) as peer:
            peer.subscribe("limits/b-out").publish("limits/b-in", b'{"mb": 5}')
            wait_for("it answers", lambda: peer.payloads == [b'{"mb":5}'])
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    ours = f"label=fogline.state-dir={folder}"
    assert docker("ps", "-aq", "--filter", ours) == docker("images", "-q", "--filter", ours) == ""


def test_a_run_says_that_there_is_no_engine(tmp_path: Path) -> None:
    raw = eaters(tmp_path, 1, id="short")
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere"}
    path = write_json(tmp_path / "p.json", raw)
    done = subprocess.run([BIN / "coord", "run", path], capture_output=True, text=True, env=env, timeout=60)
    assert (done.returncode, "has no container engine" in done.stderr) == (4, True), done.stderr


def docker(*arguments: str) -> str:
    return subprocess.check_output(["docker", *arguments], text=True)
