"""The container engine is restarted under running segments: nothing is lost, whether it keeps them running or not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from support.boxed import document, ready
from support.cluster import Cluster, wait_for
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.own_engine import OwnEngine, missing

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.containers,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
NODE = "edge_node"
RECORDS = 50


def test_an_engine_that_is_restarted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Mosquitto(tmp_path / "broker") as broker, OwnEngine(tmp_path / "e", live_restore=True) as engine:
        cluster = Cluster(tmp_path / "c")
        try:
            cluster.start_agents(NODE, environments="store", env={"DOCKER_HOST": engine.host})
            cluster.coord("submit", str(document(tmp_path, broker.port)))
            before = ids(engine)
            engine.stop()
            answers_all(range(RECORDS), broker.port)
            engine.start()
            assert ids(engine) == before
            assert cluster.stage("boxed", "judge")["restarts"] == 0
            engine.live_restore = False
            engine.stop()
            engine.start()
            engine.stop()
            said = "the container engine cannot"
            wait_for("it is said what is missing", lambda: said in cluster.stage("boxed", "judge")["reason"])
            began = time.monotonic()
            answers_all(range(RECORDS, 2 * RECORDS), broker.port, engine)
            with capsys.disabled():
                print(f"\n  what it had ended answers {time.monotonic() - began:.1f} s after it was started again")
            wait_for("it is ready", lambda: ready(cluster))
            assert ids(engine) != before
            assert cluster.stage("boxed", "judge")["restarts"] > 0
        finally:
            cluster.close()


def answers_all(numbers: range, port: int, engine: OwnEngine | None = None) -> None:
    """Each of these is answered; the engine, if one is given, is started once they are published."""
    with Peer(port) as peer:
        peer.subscribe("boxed/out")
        for number in numbers:
            peer.publish("boxed/in", json.dumps({"x": [number, 1]}).encode())
        if engine:
            engine.start()
        expected = {float(number + 1) for number in numbers}
        wait_for("all are answered", lambda: {json.loads(each)["y"] for each in peer.payloads} >= expected)


def ids(engine: OwnEngine) -> list[str]:
    return engine.docker("ps", "-q", "--no-trunc").split()
