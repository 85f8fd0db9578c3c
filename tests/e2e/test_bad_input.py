"""Bad input: one clear sentence, the right exit code, no traceback, nothing left half-deployed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.cluster import BIN, Cluster, write_code, write_json
from support.documents import a_queue, a_stage
from support.kafka import Kafka
from support.mosquitto import Mosquitto, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

Change = Callable[[dict[str, Any], Path], None]


def _document(folder: Path, port: int) -> dict[str, Any]:
    write_code(folder / "code", "def handler(data):\n    return data\n")
    stages = {"a": a_stage("q1", "q2"), "b": a_stage("q2", "q3")}
    queues = {f"q{n}": a_queue(f"bad/{n}", port=port) for n in (1, 2, 3)}
    return {"version": "1.0", "id": "bad", "pipeline": stages, "queues": queues}


def _unknown_key(document: dict[str, Any], folder: Path) -> None:
    document["pipeline"]["a"]["contraints"] = {}


def _unknown_stage(document: dict[str, Any], folder: Path) -> None:
    document["pipeline"]["a"]["queues"]["output"] = "bb"


def _cycle(document: dict[str, Any], folder: Path) -> None:
    document["pipeline"]["b"]["queues"]["output"] = "q1"
    del document["queues"]["q3"]


def _missing_model(document: dict[str, Any], folder: Path) -> None:
    model = {"type": "model", "framework": "onnx", "props": {"path": "./none.onnx"}}
    document["pipeline"]["b"] = model | {"queues": document["pipeline"]["b"]["queues"]}


def _missing_function(document: dict[str, Any], folder: Path) -> None:
    write_code(folder / "code", "def other(data):\n    return data\n")


def _raises_at_import(document: dict[str, Any], folder: Path) -> None:
    write_code(folder / "code", "import os\n\nTABLE = {}['lost']\n\ndef handler(data):\n    return data\n")


def _not_onnx(document: dict[str, Any], folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"this is no model")
    model = {"type": "model", "framework": "onnx", "props": {"path": "./model.onnx"}}
    document["pipeline"]["b"] = model | {"queues": document["pipeline"]["b"]["queues"]}


def _broker_down(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q3"]["props"]["port"] = free_port()


def _no_secret(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q1"]["props"] |= {"username": "edge", "password": {"secret": "plant-broker"}}


def _unknown_node(document: dict[str, Any], folder: Path) -> None:
    document["pipeline"]["a"]["infra"] = "mars"
    document["infra"] = {"mars": {}}


def _containers(document: dict[str, Any], folder: Path) -> None:
    document["containerized"] = True


def _unknown_host(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q1"]["props"]["server"] = "no-such-host.invalid"


def _tls_to_a_plain_port(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q1"]["props"]["tls"] = {}


def _qos_2(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q1"]["props"]["qos"] = 2


def _unknown_option(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q1"]["props"]["topik"] = "bad/1"


def _written_wildcard(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q3"]["props"]["topic"] = "bad/+"


def _exactly_once_without_kafka(document: dict[str, Any], folder: Path) -> None:
    document["queues"]["q3"]["guarantee"] = "exactly-once"


def _pinned_each(document: dict[str, Any], folder: Path) -> None:
    document["pipeline"]["a"] |= {"infra": "edge_node", "replicas": "each"}
    document["infra"] = {"edge_node": {}}


CASES: list[tuple[Change, int, tuple[str, ...]]] = [
    (_unknown_key, 2, ("/pipeline/a/contraints", "constraints")),
    (_unknown_stage, 2, ("/pipeline/a/queues/output", "bb")),
    (_cycle, 2, ("runs in a circle: a", "/pipeline/a/queues/output")),
    (_missing_model, 2, ("/pipeline/b/props/path", "none.onnx")),
    (_missing_function, 2, ("handler", "main.py")),
    (_raises_at_import, 5, ("main.py:3", "KeyError")),
    (_not_onnx, 5, ("segment b", "ONNX")),
    (_broker_down, 5, ("localhost", "refused")),
    (
        _no_secret,
        5,
        ("the secret 'plant-broker' is not on this node: write it to", "secrets/plant-broker", "mode 0600"),
    ),
    (_unknown_host, 5, ("no-such-host.invalid", "segment a")),
    (_tls_to_a_plain_port, 5, ("segment a", "the TLS handshake failed")),
    (_qos_2, 2, ("/queues/q1/props/qos", "QoS 2", "use 1")),
    (_unknown_option, 2, ("'topik' is not an option of connector 'mqtt'; did you mean 'topic'?",)),
    (_written_wildcard, 2, ("/queues/q3/props/topic", "stage 'b' writes to this topic")),
    (_exactly_once_without_kafka, 2, ("/queues/q3/guarantee", "'mqtt' has no transactions")),
    (_pinned_each, 2, ("/pipeline/a/replicas", "'infra' pins 'a' to one")),
    (_unknown_node, 4, ("no node mars has joined; known: edge_node",)),
    (_containers, 4, ("no node can run stage a: edge_node",)),
]


@pytest.mark.parametrize(("change", "code", "words"), CASES, ids=[case[0].__name__[1:] for case in CASES])
def test_a_bad_document_is_refused_with_a_sentence(
    change: Change, code: int, words: tuple[str, ...], tmp_path: Path, broker: Mosquitto, shared_node: Cluster
) -> None:
    document = _document(tmp_path, broker.port)
    change(document, tmp_path)
    refused = shared_node.coord("submit", str(write_json(tmp_path / "p.json", document)), check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode == code, said
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    for row in json.loads(shared_node.coord("nodes", "--output", "json").stdout):
        assert row["assignments"] == 0
    shared_node.coord("delete", "bad", check=False)


KAFKA: list[tuple[dict[str, Any], dict[str, Any], int, tuple[str, ...]]] = [
    ({"server": "127.0.0.1", "port": 1}, {}, 5, ("kafka 127.0.0.1:1: ", "Connection refused")),
    ({"create": False}, {}, 5, ("topic bad.2: it does not exist", '"create": false keeps it from being made')),
    ({"username": "edge", "password": {"secret": "none"}}, {}, 5, ("the secret 'none' is not on this node",)),
    ({"topic": "a/b"}, {}, 2, ("/queues/q2/props/topic", "'a/b' cannot be a topic of Kafka")),
    ({}, {"guarantee": "exactly-once"}, 4, ("queue q2 cannot be exactly once", "also uses q1")),
]


@pytest.mark.parametrize(("props", "more", "code", "words"), KAFKA, ids=["host", "topic", "login", "name", "exactly"])
def test_a_bad_queue_of_kafka_is_refused_with_a_sentence(
    props: dict[str, Any],
    more: dict[str, Any],
    code: int,
    words: tuple[str, ...],
    tmp_path: Path,
    broker: Mosquitto,
    kafka: Kafka,
    shared_node: Cluster,
) -> None:
    def change(document: dict[str, Any], _folder: Path) -> None:
        place = {"server": "127.0.0.1", "port": kafka.port, "topic": "bad.2"}
        document["queues"]["q2"] = {"connector": "kafka", "props": place | props} | more

    test_a_bad_document_is_refused_with_a_sentence(change, code, words, tmp_path, broker, shared_node)


def test_text_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"version": "1.0",\n "pipeline": }')
    done = _coord("validate", str(tmp_path / "p.json"), "--output", "json")
    (problem,) = json.loads(done.stdout)["problems"]
    assert (done.returncode, problem["severity"], problem["line"]) == (2, "error", 2)


def test_nobody_answers_there() -> None:
    done = _coord("nodes", "--coordinator", f"127.0.0.1:{free_port()}")
    assert done.returncode == 8
    assert done.stderr.startswith("coord: no coordinator answers at 127.0.0.1:")


def test_the_port_is_in_use(tmp_path: Path, broker: Mosquitto) -> None:
    done = _coord("serve", "--listen", f"127.0.0.1:{broker.port}", "--state-dir", str(tmp_path / "c"))
    assert done.returncode == 9
    assert f"cannot listen on 127.0.0.1:{broker.port}: Address already in use; choose" in done.stderr


def test_beyond_loopback_needs_insecure(tmp_path: Path) -> None:
    for command in (["serve", "--state-dir", str(tmp_path / "c"), "--listen"], ["nodes", "--coordinator"]):
        done = _coord(*command, "192.0.2.1:7700")
        assert done.returncode == 12
        assert "--insecure" in done.stderr


def _coord(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(BIN / "coord"), *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr
    return done
