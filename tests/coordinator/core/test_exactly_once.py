"""Exactly once: which segments can keep it, and what they are told that cannot."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.core.exactly_once import exactly_once_problems, is_exact
from fogline.coordinator.core.split import Cut, Segment
from fogline.coordinator.core.wires import Wiring, automatic_queues
from support.documents import a_stage
from support.documents import document as parsed


def queue(connector: str = "kafka", topic: str = "t", **more: Any) -> dict[str, Any]:
    props = {"server": more.pop("server", "k"), "topic": topic}
    return {"connector": connector, "props": props, **more}


def document(reads: dict[str, Any], writes: dict[str, Any]) -> Any:
    stages = {"a": a_stage("q1", "b"), "b": a_stage("a", "q2")}
    return parsed({"version": "1.0", "id": "p", "pipeline": stages, "queues": {"q1": reads, "q2": writes}})


WHOLE = Segment("a", ("a", "b"), "n", 0)
EXACT = {"topic": "u", "guarantee": "exactly-once"}


def test_a_segment_within_one_cluster_keeps_it() -> None:
    made = document(queue(), queue(**EXACT))
    assert is_exact(made, WHOLE)
    assert list(exactly_once_problems(made, [WHOLE], {})) == []


@pytest.mark.parametrize(
    ("reads", "named"),
    [(queue("mqtt"), "q1"), (queue(server="elsewhere"), "q1"), (queue(server="k") | {}, "")],
)
def test_an_end_elsewhere_is_named(reads: dict[str, Any], named: str) -> None:
    found = list(exactly_once_problems(document(reads, queue(**EXACT)), [WHOLE], {}))
    assert [each.pointer for each in found] == (["/queues/q2/guarantee"] if named else [])
    assert all(f"also uses {named}, which is not in the same Kafka cluster" in each.message for each in found)


def test_an_automatic_queue_is_an_end_too() -> None:
    made = document(queue(), queue(**EXACT))
    automatic = automatic_queues(made, [Cut(("a", "b"), "apart")], Wiring("c", {"server": "m", "port": 1883}))
    apart = [Segment("a", ("a",), "n", 0), Segment("b", ("b",), "m", 1)]
    found = list(exactly_once_problems(made, apart, automatic))
    assert ["also uses a..b" in each.message for each in found] == [True]
    assert not is_exact(made, apart[0])
