"""Streams in containers give what they give natively: {local, remote} x {atomic, distributed}, mixed, MQTT, Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from support.boxed import boxes
from support.cluster import LAYERS, Cluster, cluster, wait_for, write_code, write_json
from support.containers import IN_CONTAINERS
from support.documents import a_queue
from support.endpoints import delete_all, status_of
from support.kafka import Kafka
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer

pytestmark = [*IN_CONTAINERS, pytest.mark.timeout(180)]
RECORDS = 300
CODE = {
    "prepare": "def handler(data):\n    return {'n': data['n'], 'x': [data['n'], 1]} if data['n'] % 7 else None\n",
    "judge": "def handler(data):\n    return dict(data, y=float(sum(data['x'])))\n",
    "keep": "def handler(data):\n    return dict(data, large=data['y'] > 100)\n",
}
TAKEN = [json.dumps({"n": n}).encode() for n in range(RECORDS)]
EXPECTED = [{"n": n, "x": [n, 1], "y": n + 1.0, "large": n + 1.0 > 100} for n in range(RECORDS) if n % 7]
AT = dict(zip(CODE, LAYERS, strict=True))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("streams") / "cluster") as started:
        started.start_agents(*LAYERS, environments="store")
        yield started


@pytest.fixture
def clean(site: Cluster) -> Iterator[Cluster]:
    """The same, with nothing deployed afterwards."""
    yield site
    delete_all(site)


def stages(folder: Path, links: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """The three of them."""
    found = {}
    for name, (before, after) in links.items():
        props = {"path": str(write_code(folder / name, CODE[name])), "entrypoint": "main.py", "function": "handler"}
        stage = {"type": "code", "language": "python", "props": props}
        found[name] = stage | {"queues": {"input": before, "output": after}}
    return found


ATOMIC = {"prepare": ("in", "judge"), "judge": ("prepare", "keep"), "keep": ("judge", "out")}
DISTRIBUTED = {"prepare": ("in", "first"), "judge": ("first", "second"), "keep": ("second", "out")}


def a_document(folder: Path, port: int, id_: str, *, mode: str, contained: bool) -> dict[str, Any]:
    where, how = mode.split("-")
    links = DISTRIBUTED if how == "distributed" else ATOMIC
    found = stages(folder, links)
    names = {name for pair in links.values() for name in pair} - set(links)
    queues = {name: a_queue("plant/in" if name == "in" else f"{id_}/{name}", port=port) for name in sorted(names)}
    raw = {"version": "1.0", "id": id_, "containerized": contained, "pipeline": found, "queues": queues}
    if where == "local":
        return raw | {"deploy-mode": "local"}
    for name, stage in found.items():
        stage["infra"] = AT[name] if how == "distributed" else "cloud_1"
    return raw | {"infra": {name: {"hostname": name} for name in LAYERS}}


@pytest.mark.parametrize("mode", ["local-atomic", "local-distributed", "remote-atomic"])
def test_the_same_records_as_native(mode: str, clean: Cluster, tmp_path: Path, broker: Mosquitto) -> None:
    for id_ in ("boxed", "native"):
        raw = a_document(tmp_path, broker.port, id_, mode=mode, contained=id_ == "boxed")
        clean.coord("submit", str(write_json(tmp_path / f"{id_}.json", raw)))
    assert boxes(clean, "native") == []
    assert sorted(segments(clean, "boxed")) == (sorted(CODE) if mode.endswith("distributed") else ["prepare"])
    with Peer(broker.port) as peer, Peer(broker.port) as other:
        peer.subscribe("boxed/out")
        other.subscribe("native/out")
        peer.publish("plant/in", *TAKEN)
        wait_for("all are there", lambda: min(len(peer.payloads), len(other.payloads)) >= len(EXPECTED))
        assert peer.payloads == other.payloads
        assert [json.loads(each) for each in peer.payloads] == EXPECTED


def segments(site: Cluster, id_: str) -> list[str]:
    return [box["Config"]["Labels"]["fogline.segment"] for box in boxes(site, id_)]


def test_one_stage_of_a_chain_stays_native(clean: Cluster, tmp_path: Path, broker: Mosquitto) -> None:
    raw = a_document(tmp_path, broker.port, "mixed", mode="remote-atomic", contained=True)
    raw["pipeline"]["keep"]["containerized"] = False
    submitted = clean.coord("submit", str(write_json(tmp_path / "mixed.json", raw))).stdout
    assert "judge..keep" in submitted
    assert segments(clean, "mixed") == ["prepare"]
    with Peer(broker.port) as peer:
        peer.subscribe("mixed/out")
        peer.publish("plant/in", *TAKEN)
        wait_for("all are there", lambda: len(peer.payloads) >= len(EXPECTED))
        assert [json.loads(each) for each in peer.payloads] == EXPECTED
    assert {row["name"]: row["state"] for row in status_of(clean, "mixed")["stages"]} == dict.fromkeys(CODE, "ready")


def test_remote_and_distributed_between_kafka_and_kafka(
    clean: Cluster, tmp_path: Path, kafka: Kafka, broker: Mosquitto
) -> None:
    raw = a_document(tmp_path, broker.port, "boxed", mode="remote-distributed", contained=True)
    for name in ("in", "out"):
        props = {"server": kafka.host, "port": kafka.port, "topic": f"boxed-{name}"}
        raw["queues"][name] = {"connector": "kafka", "props": props}
    clean.coord("submit", str(write_json(tmp_path / "p.json", raw)))
    assert sorted(segments(clean, "boxed")) == sorted(CODE)
    clean.coord("send", "boxed", input_="\n".join(record.decode() for record in TAKEN))
    assert [json.loads(each) for each in read(kafka, "boxed-out", len(EXPECTED))] == EXPECTED


def test_files_of_the_node(clean: Cluster, tmp_path: Path) -> None:
    """Only the folders of its files are in there; what is read cannot be written."""
    for name, mode in (("given", 0o755), ("made", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "given" / "in.jsonl").write_bytes(b"".join(each + b"\n" for each in TAKEN))
    raw = a_document(tmp_path, 1, "files", mode="local-atomic", contained=True)
    paths = {"in": "given/*.jsonl", "out": "made/out.jsonl"}
    raw["queues"] = {
        name: {"connector": "file", "props": {"path": str(tmp_path / path)}} for name, path in paths.items()
    }
    clean.coord("submit", str(write_json(tmp_path / "p.json", raw)))
    wait_for("all are read", lambda: status_of(clean, "files")["state"] == "finished")
    assert [json.loads(each) for each in (tmp_path / "made" / "out.jsonl").read_text().splitlines()] == EXPECTED
    (tmp_path / "given" / "more.jsonl").write_text('{"n": 1}\n')
    clean.coord("start", "files")
    wait_for("it goes on", lambda: len((tmp_path / "made" / "out.jsonl").read_text().splitlines()) > len(EXPECTED))
    assert json.loads((tmp_path / "made" / "out.jsonl").read_text().splitlines()[-1])["n"] == 1
    raw["queues"]["out"]["props"]["path"] = str(tmp_path / "absent" / "out.jsonl")
    refused = clean.coord("submit", str(write_json(tmp_path / "p.json", raw)), check=False)
    assert (refused.returncode, "there is no folder" in refused.stdout + refused.stderr) == (5, True), refused
    raw["queues"]["out"]["props"]["path"] = "/etc/out.jsonl"
    refused = clean.coord("plan", str(write_json(tmp_path / "p.json", raw)), check=False)
    assert (refused.returncode, "is never given the folder /etc" in refused.stderr) == (2, True), refused.stderr


def read(kafka: Kafka, topic: str, count: int) -> list[bytes]:
    """So many records of a topic from its beginning."""
    given = {"bootstrap.servers": kafka.server, "group.id": f"reads-{topic}", "auto.offset.reset": "earliest"}
    consumer = Consumer(given)
    consumer.subscribe([topic])
    found: list[bytes] = []

    def enough() -> bool:
        found.extend(each.value() or b"" for each in consumer.consume(count, 0.2) if not each.error())
        return len(found) >= count

    wait_for("all are there", enough)
    consumer.close()
    return found
