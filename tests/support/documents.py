"""Builders of PADL documents and fleets for tests."""

from __future__ import annotations

from typing import Any

from fogline.coordinator.core.fleet import Node, NodeState
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.parse import parse


def a_queue(topic: str, **props: Any) -> dict[str, Any]:
    """An MQTT queue."""
    return {"connector": "mqtt", "props": {"server": "localhost", "port": 1883, "topic": topic, **props}}


def a_stage(input_: str, output: str, **extra: Any) -> dict[str, Any]:
    """A code stage."""
    return {
        "type": "code",
        "language": "python",
        "props": {"path": "./code", "entrypoint": "main.py", "function": "handler"},
        "queues": {"input": input_, "output": output},
        **extra,
    }


def a_pipeline(**changes: Any) -> dict[str, Any]:
    """Three code stages a, b, c joined by queues q1..q4, nothing pinned."""
    return {
        "version": "1.0",
        "id": "p",
        "pipeline": {"a": a_stage("q1", "q2"), "b": a_stage("q2", "q3"), "c": a_stage("q3", "q4")},
        "queues": {f"q{n}": a_queue(f"t{n}") for n in range(1, 5)},
        **changes,
    }


def a_fused_pipeline(**changes: Any) -> dict[str, Any]:
    """The same three stages joined directly."""
    stages = {"a": a_stage("q1", "b"), "b": a_stage("a", "c"), "c": a_stage("b", "q4")}
    return a_pipeline(pipeline=stages, queues={"q1": a_queue("t1"), "q4": a_queue("t4")}) | changes


def document(raw: dict[str, Any]) -> Document:
    """The parsed document; fails the test when it does not parse."""
    parsed, problems = parse(raw)
    assert parsed is not None, problems
    return parsed


def a_node(name: str, **facts: Any) -> Node:
    """A connected node with room."""
    given: dict[str, Any] = {"hostname": f"{name}.host", "machine_id": name, "cpus": 4.0, "memory_bytes": 8 * 2**30}
    given |= {"frameworks": ("onnx", "sklearn"), "connectors": ("file", "kafka", "mqtt"), "state": NodeState.CONNECTED}
    return Node(name, **(given | facts))
