"""Images in a registry: built and pushed once by the submitter, pulled by digest on a node with its own engine."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.boxed import ready
from support.cluster import BIN, Cluster, wait_for, write_code, write_json
from support.containers import needs_engine, remove_images
from support.documents import a_pipeline, a_queue, a_stage
from support.image_registry import PASSWORD, USER, Registry
from support.image_registry import missing as no_registry
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.own_engine import OwnEngine, missing

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.containers,
    pytest.mark.timeout(180),
    needs_engine,
    pytest.mark.skipif(bool(missing() or no_registry()), reason=missing() or no_registry()),
]
NODE, SECRET = "edge_node", "plant-registry"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry", asks=True) as running:
        yield running
        tags = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"{running.address}/*/*"]
        remove_images(*subprocess.check_output(tags, text=True).split())


def has_secret(folder: Path, content: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / SECRET).write_text(content)
    (folder / SECRET).chmod(0o600)


def test_a_round_trip(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with Mosquitto(tmp_path / "broker") as broker, OwnEngine(tmp_path / "e") as engine:
        cluster = Cluster(tmp_path / "c")
        try:
            cluster.start_agents(NODE, environments="store", env={"DOCKER_HOST": engine.host})
            before = engine.docker("images", "-aq").split()
            monkeypatch.setenv("FOGLINE_SECRETS", str(tmp_path / "mine"))
            path = document(tmp_path, registry, broker.port)
            is_refused_without_a_login(cluster, path, tmp_path, f"{registry.address}/others")
            has_secret(tmp_path / "mine", f"{USER}:{PASSWORD}")
            cannot_be_pulled_without_a_login(cluster, path, engine, before)
            has_secret(cluster.folder / NODE / "secrets", f"{USER}:{PASSWORD}\n")
            told = cluster.coord("submit", str(path)).stderr
            assert "building" not in told, "it was pushed before, and is in charge"
            wait_for("it is ready", lambda: ready(cluster))
            answers(broker.port)
            was_pulled(cluster, engine, registry)
            assert "unchanged" in cluster.coord("submit", str(path)).stdout
            assert cluster.coord("diff", str(path)).returncode == 0
            cluster.coord("delete", "boxed")
            gone = lambda: engine.docker("images", "-aq").split() == before  # noqa: E731
            wait_for("nothing of it is left on the node", gone)
            is_pushed_by_hand(registry, path, tmp_path / "contexts")
        finally:
            cluster.close()


def document(folder: Path, registry: Registry, port: int) -> Path:
    """A stage that adds two numbers, small enough to be pushed in a moment."""
    write_code(folder / "code", "def handler(data):\n    return {'y': sum(data['x'])}\n")
    queues = {name: a_queue(f"boxed/{name}", port=port) for name in ("in", "out")}
    made = a_pipeline(id="boxed", pipeline={"judge": a_stage("in", "out")}, queues=queues, containerized=True)
    made["registry"] = {"prefix": f"{registry.address}/lines", "credentials": {"secret": SECRET}}
    return write_json(folder / "p.json", made)


def is_refused_without_a_login(cluster: Cluster, path: Path, folder: Path, prefix: str) -> None:
    """The submitter has none yet, or a wrong one: nothing is submitted. The prefix is not the document's."""
    for login in ("", f"{USER}:wrong"):
        if login:
            has_secret(folder / "mine", login)
        done = cluster.coord("submit", str(path), "--registry", prefix, check=False)
        assert done.returncode == 5, done.stderr
        assert f"the container engine cannot push {prefix}/boxed-judge: " in done.stderr
        assert "the registry does not accept the credentials, or asks for some" in done.stderr
    assert json.loads(cluster.coord("list", "--output", "json").stdout) == []


def cannot_be_pulled_without_a_login(cluster: Cluster, path: Path, engine: OwnEngine, before: list[str]) -> None:
    """The node has none yet, or a wrong one: the submit fails with the reason, and the engine has nothing of it."""
    done = cluster.coord("submit", str(path), check=False)
    assert done.returncode == 5
    assert f"the secret {SECRET}, with which its image is pulled, cannot be read" in done.stdout
    assert re.search(r"pushed \S+/lines/boxed-judge@sha256:[0-9a-f]{64}", done.stderr)
    has_secret(cluster.folder / NODE / "secrets", f"{USER}:wrong")
    done = cluster.coord("submit", str(path), check=False)
    assert "the registry does not accept the credentials, or asks for some" in done.stdout
    assert engine.docker("images", "-aq").split() == before


def is_pushed_by_hand(registry: Registry, path: Path, out: Path) -> None:
    """What `coord package` pushes runs by its digest."""
    package = ["package", str(path), "--out", str(out), "--push", f"{registry.address}/by-hand", "--output", "json"]
    (row,) = json.loads(subprocess.check_output([BIN / "coord", *package], text=True, stderr=subprocess.DEVNULL))
    assert re.fullmatch(rf"{registry.address}/by-hand/boxed-judge@sha256:[0-9a-f]{{64}}", row["pushed"])
    (found,) = json.loads(subprocess.check_output(["docker", "inspect", row["pushed"]]))
    assert found["Config"]["User"] == "65532:65532"
    assert found["Config"]["Labels"]["fogline.sources"] == next((out / "judge" / "artifacts").iterdir()).name


def answers(port: int) -> None:
    with Peer(port) as peer:
        peer.subscribe("boxed/out").publish("boxed/in", b'{"x": [3, 4]}')
        wait_for("it answers", lambda: peer.payloads)
        assert b'"y":7' in peer.payloads[0]


def was_pulled(cluster: Cluster, engine: OwnEngine, registry: Registry) -> None:
    """The container runs what the registry holds, and was made for this revision; the node built no environment."""
    (box,) = json.loads(engine.docker("inspect", *engine.docker("ps", "-q").split()))
    labels = box["Config"]["Labels"]
    assert labels["fogline.revision"] == str(cluster.status("boxed")["revision"])
    assert labels["org.opencontainers.image.title"] == "boxed/judge"
    assert engine.docker("images", "-q", "fogline/environment") == ""
    assert engine.docker("images", "-q", f"{registry.address}/lines/boxed-judge") == "", "by our own name only"
