"""Fan-out by a field of the record, and fan-in, through the example that shows them."""

from __future__ import annotations

import json
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from support.cluster import BIN, Cluster, Process, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.results.collector import Collector
from support.results.producer import publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "language-routing"
SCORES = {1: -2, 2: 2, 3: 1, 5: 0}
OTHER = [4]


def _scored(records: list[Any]) -> dict[int, int]:
    return {record["id"]: record["score"] for record in records if "score" in record}


def test_each_record_goes_where_its_field_says(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    ports = {name: {"props": {"port": broker.port}} for name in ("comments-in", "scored", "other")}
    site = write_json(tmp_path / "site.json", {"queues": ports})
    one_node.coord("submit", str(EXAMPLE / "pipeline.json"), str(site))
    bad = json.dumps({"id": 6}) + "\n"
    with Collector(broker.port, "comments/scored") as scored, Collector(broker.port, "comments/other") as other:
        one_node.coord("send", "comments", "-", input_=(EXAMPLE / "comments.jsonl").read_text() + bad)
        wait_for("the scores", lambda: len(scored.records) >= len(SCORES))
        wait_for("the rest", lambda: other.records)
        wait_for("all counted", lambda: one_node.stage("comments", "language")["dead_lettered"] == 1)
    assert _scored(scored.records) == SCORES
    assert [record["id"] for record in other.records] == OTHER
    counted = {name: one_node.stage("comments", name)["in"] for name in ("language", "english", "german")}
    assert counted == {"language": 6, "english": 2, "german": 2}


def test_two_writers_of_one_queue_on_two_nodes_are_tapped_as_one(
    tmp_path: Path, broker: Mosquitto, fleet: Cluster
) -> None:
    for name in ("a", "b"):
        write_code(tmp_path / name, f"def handler(data):\n    return {{'by': '{name}', **data}}\n")
    stages = {
        name: a_stage(f"in-{name}", "all", infra=node, props={"path": f"./{name}"})
        for name, node in (("a", "edge_node"), ("b", "cloud_1"))
    }
    queues = {name: a_queue(f"fan/{name}", port=broker.port) for name in ("in-a", "in-b", "all")}
    infra: dict[str, Any] = {"edge_node": {}, "cloud_1": {}}
    document = {"version": "1.0", "id": "fan", "pipeline": stages, "queues": queues, "infra": infra}
    fleet.coord("submit", str(write_json(tmp_path / "fan.json", document)))
    tap = Process("tap", tmp_path, "coord", "tap", "fan", "all", "--coordinator", fleet.address)
    numbers = count()

    def seen() -> bool:
        """A tap shows what passes from when it is there; so go on until it has both."""
        payload = json.dumps({"n": next(numbers)}).encode()
        for name in ("in-a", "in-b"):
            publish(broker.port, f"fan/{name}", [payload])
        return {json.loads(line)["by"] for line in tap.log.splitlines()} == {"a", "b"}

    try:
        with Collector(broker.port, "fan/all") as collector:
            wait_for("records of both writers in the tap", seen)
            sent = next(numbers)
            wait_for("all of both", lambda: len(collector.records) >= 2 * sent)
    finally:
        tap.end()
    came = sorted((record["by"], record["n"]) for record in collector.records)
    assert came == [(name, n) for name in ("a", "b") for n in range(sent)]


def test_coord_test_shows_what_reaches_every_last_queue() -> None:
    argv = [str(BIN / "coord"), "test", str(EXAMPLE / "pipeline.json"), "--input", str(EXAMPLE / "comments.jsonl")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert _scored(records) == SCORES
    assert [record["id"] for record in records if "score" not in record] == OTHER
