"""Pipelines for numbered records, and what they must make of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.cluster import write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import free_port
from support.results.ledger import DeadLetter, Kept

NODES = ("edge_node", "cloud_1", "cloud_2")
STAGES = "abc"
ID = "numbered"
"""Of every pipeline here."""


def a_record(number: int) -> dict[str, Any]:
    """A record of some 100 bytes whose every part depends on its number."""
    return {"n": number, "text": f"Messung {number} \u2603", "values": [number / 4, -number, number % 7 == 0]}


def payload(number: int) -> bytes:
    """The record as a foreign program would write it."""
    return json.dumps(a_record(number), separators=(",", ":"), ensure_ascii=False).encode()


def through(stages: str) -> Callable[[int], Kept]:
    """What must be at the sink after these stages."""

    def expect(number: int) -> Kept:
        return Kept({**a_record(number), **{stage: number * 2 + ord(stage) for stage in stages}})

    return expect


def code(folder: Path, stage: str, work: str = "pass") -> Path:
    """A stage that adds one field; `work` is done before."""
    body = f"    {work}\n    return {{**data, {stage!r}: data['n'] * 2 + {ord(stage)}}}\n"
    return write_code(folder / stage, f"import os, signal, time\n\n\ndef handler(data):\n{body}")


def chain(folder: Path, ports: Sequence[int], *, works: Mapping[str, str], pinned: bool = False, **stage: Any) -> Path:
    """The stages named in `works`, in a row: from queue `q1` to the last, each at the broker of its port."""
    names = list(works)
    for name, work in works.items():
        code(folder, name, work)
    stages = {
        name: a_stage(f"q{index}", f"q{index + 1}", props={"path": f"./{name}"}, **stage)
        | ({"infra": NODES[index - 1]} if pinned else {})
        for index, name in enumerate(names, 1)
    }
    queues = {f"q{index}": a_queue(f"numbered/{index}", port=port) for index, port in enumerate(ports, 1)}
    document: dict[str, Any] = {"version": "1.0", "id": ID, "pipeline": stages, "queues": queues}
    if pinned:
        document["infra"] = {node: {} for node in NODES}
    return write_json(folder / "pipeline.json", document)


def three_stages(folder: Path, port: int) -> Path:
    """a -> b -> c over queues, each on a node of its own; b computes a while."""
    works = {"a": "pass", "b": "sum(range(2_000))", "c": "pass"}
    return chain(folder, [port] * 4, works=works, pinned=True)


def three_linked(folder: Path, port: int) -> Path:
    """The same with direct links: between nodes they become automatic queues."""
    path = three_stages(folder, port)
    document = json.loads(path.read_text())
    ends = {"a": ("q1", "b"), "b": ("a", "c"), "c": ("b", "q4")}
    for name, (reads, writes) in ends.items():
        document["pipeline"][name]["queues"] = {"input": reads, "output": writes}
    del document["queues"]["q2"], document["queues"]["q3"]
    return write_json(path, document)


def three_by_websocket(folder: Path, port: int) -> Path:
    """The same with acknowledged links: b listens for a, and also for c, which reads from it."""
    path = three_stages(folder, port)
    document = json.loads(path.read_text())
    for name, role in (("q2", "listen"), ("q3", "connect")):
        props = {"server": "127.0.0.1", "port": free_port(), "topic": f"numbered/{name}", "role": role}
        document["queues"][name] = {"connector": "websocket", "props": props}
    return write_json(path, document)


def mixed(folder: Path, mqtt_port: int, kafka_port: int) -> Path:
    """The same over two queues of MQTT, then two of Kafka."""
    path = three_stages(folder, mqtt_port)
    document = json.loads(path.read_text())
    for number in (3, 4):
        props = {"server": "127.0.0.1", "port": kafka_port, "topic": f"numbered.{number}"}
        document["queues"][f"q{number}"] = {"connector": "kafka", "props": props}
    return write_json(path, document)


def exact(folder: Path, kafka_port: int) -> Path:
    """a alone, from Kafka to Kafka, exactly once."""
    path = one_stage(folder, (0, 0), work="sum(range(2_000))")
    document = json.loads(path.read_text())
    for number in (1, 2):
        props = {"server": "127.0.0.1", "port": kafka_port, "topic": f"numbered.{number}"}
        document["queues"][f"q{number}"] = {"connector": "kafka", "props": props}
    document["queues"]["q2"]["guarantee"] = "exactly-once"
    return write_json(path, document)


def one_stage(folder: Path, ports: tuple[int, int], *, work: str = "pass", **stage: Any) -> Path:
    """a alone, from `q1` at one port to `q2` at another."""
    return chain(folder, ports, works={"a": work}, **stage)


def two_by_websocket(folder: Path, ports: tuple[int, int]) -> Path:
    """a -> b over an acknowledged link, from a queue at one port to a queue at another."""
    path = chain(folder, (ports[0], ports[0], ports[1]), works={"a": "pass", "b": "pass"})
    document = json.loads(path.read_text())
    props = {"server": "127.0.0.1", "port": free_port(), "topic": "numbered"}
    document["queues"]["q2"] = {"connector": "websocket", "props": props}
    return write_json(path, document)


def malformed(number: int) -> bytes:
    """A payload that no stage can make anything of; six kinds, and every 480th is larger than allowed."""
    kinds = (
        b'{"n": %d, "text": "\xff\xfe"}' % number,
        b"[" * 10_000 + b"%d" % number + b"]" * 10_000,
        b'{"n": %d, "values": [NaN, Infinity]}' % number,
        b"",
        b'{"number": %d}' % number,
        b'"%d is only text"' % number,
    )
    if number % 480 == 479:
        return b'{"n": %d, "text": "%s"}' % (number, b"x" * 2**20)
    return kinds[number // 2 % len(kinds)]


def half_malformed(number: int) -> bytes:
    """Every odd record is malformed."""
    return malformed(number) if number % 2 else payload(number)


def half_kept(number: int) -> Kept | DeadLetter:
    """What must become of `half_malformed` after stage a."""
    return DeadLetter(malformed(number)) if number % 2 else through("a")(number)


DEADLY = "data['n'] % 1000 == 7 and os.kill(os.getpid(), signal.SIGSEGV)"
"""Work that ends the process at one record in a thousand."""


def all_but_deadly(number: int) -> Kept | DeadLetter:
    """What must become of a record after a stage a that does DEADLY work."""
    return DeadLetter(payload(number)) if number % 1000 == 7 else through("a")(number)
