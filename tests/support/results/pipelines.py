"""Pipelines for numbered records, and what they must make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.cluster import write_code, write_json
from support.documents import a_queue, a_stage
from support.results.ledger import Kept

NODES = ("edge_node", "cloud_1", "cloud_2")
STAGES = "abc"


def a_record(number: int) -> dict[str, Any]:
    """A record of some 100 bytes whose every part depends on its number."""
    return {"n": number, "text": f"Messung {number} \u2603", "values": [number / 4, -number, number % 7 == 0]}


def payload(number: int) -> bytes:
    """The record as a foreign program would write it."""
    return json.dumps(a_record(number), separators=(",", ":"), ensure_ascii=False).encode()


def through(stages: str) -> Any:
    """What must be at the sink after these stages."""

    def expect(number: int) -> Kept:
        return Kept({**a_record(number), **{stage: number * 2 + ord(stage) for stage in stages}})

    return expect


def code(folder: Path, stage: str, work: str = "pass") -> Path:
    """A stage that adds one field; `work` is done before."""
    body = f"    {work}\n    return {{**data, {stage!r}: data['n'] * 2 + {ord(stage)}}}\n"
    return write_code(folder / stage, f"import os, signal, time\n\n\ndef handler(data):\n{body}")


def three_stages(folder: Path, port: int, *, id_: str = "numbered", **stage: Any) -> Path:
    """a -> b -> c over queues, each on a node of its own; b computes a while."""
    for name in STAGES:
        code(folder, name, "sum(range(2_000))" if name == "b" else "pass")
    stages = {
        name: a_stage(f"q{index}", f"q{index + 1}", infra=node, props={"path": f"./{name}"}, **stage)
        for index, (name, node) in enumerate(zip(STAGES, NODES, strict=True), 1)
    }
    queues = {f"q{n}": a_queue(f"{id_}/{n}", port=port) for n in range(1, 5)}
    infra: dict[str, Any] = {node: {} for node in NODES}
    document = {"version": "1.0", "id": id_, "pipeline": stages, "queues": queues, "infra": infra}
    return write_json(folder / "pipeline.json", document)


def one_stage(folder: Path, ports: tuple[int, int], *, id_: str = "numbered", work: str = "pass", **stage: Any) -> Path:
    """a alone, from the queue `in` at one port to the queue `out` at another."""
    code(folder, "a", work)
    stages = {"a": a_stage("in", "out", props={"path": "./a"}, **stage)}
    queues = {name: a_queue(f"{id_}/{name}", port=port) for name, port in zip(("in", "out"), ports, strict=True)}
    document = {"version": "1.0", "id": id_, "pipeline": stages, "queues": queues}
    return write_json(folder / "pipeline.json", document)
