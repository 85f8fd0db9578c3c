"""Where the copies of a stage go, and as whom they read."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.core.copies import Planned, copies_of
from fogline.coordinator.core.fleet import Node, NodeState
from fogline.coordinator.core.place import Circumstances, place
from fogline.coordinator.core.plan import plan
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.padl.check import check
from fogline.coordinator.service.records import find_taps, segments_of
from fogline.runtimes.spec import SegmentSpec, parse
from support.documents import a_node, a_queue, a_stage, document

FLEET = [a_node("m1"), a_node("m2"), a_node("m3")]


def one_stage(replicas: int | str, q1: dict[str, Any] | None = None, **stage: Any) -> Any:
    queues = {"q1": q1 or a_queue("in", server="broker"), "q2": a_queue("out", server="broker")}
    pipeline = {"a": a_stage("q1", "q2", replicas=replicas, **stage)}
    return document({"version": "1.0", "id": "p", "pipeline": pipeline, "queues": queues})


def placed(made: Any, fleet: list[Node] = FLEET, **given: Any) -> tuple[str, ...]:
    result = place(made, fleet, Circumstances(**given))
    assert result.problems == []
    return result.copies["a"]


def specs(made: Any, fleet: list[Node] = FLEET) -> list[SegmentSpec]:
    planned = plan(made, fleet, Circumstances(), {}, Wiring("c"))
    assert planned.errors == []
    copies, blobs = copies_of(Planned(made, planned.segments, planned.automatic, {"a": "x"}), "c", fleet)
    return [parse(blobs[copy.spec_digest]) for copy in copies]


def test_copies_go_round_the_nodes_that_would_do() -> None:
    assert placed(one_stage(5)) == ("m1", "m2", "m3", "m1", "m2")


def test_copies_stay_where_they_are() -> None:
    assert placed(one_stage(3), running={"a": "m2"}, copies={"a": ("m2", "m2")}) == ("m2", "m2", "m1")


def test_a_node_without_room_for_another_copy_is_left_out() -> None:
    fleet = [a_node("m1", cpus=1.0), a_node("m2", cpus=2.0)]
    assert placed(one_stage(3, resources={"cpus": 1}), fleet) == ("m2", "m1", "m2")


def test_copies_of_a_pinned_stage_stay_together() -> None:
    assert placed(one_stage(3, infra="m2")) == ("m2", "m2", "m2")


def test_copies_of_fused_stages_go_where_all_of_them_may_run() -> None:
    edge = {"node": {"layer": "edge"}}
    stages = {"a": a_stage("q1", "b", replicas=2), "b": a_stage("a", "q2", replicas=2, constraints=edge)}
    queues = {name: a_queue(name, server="broker") for name in ("q1", "q2")}
    made = document({"version": "1.0", "id": "p", "pipeline": stages, "queues": queues})
    fleet = [a_node("m1", layer="fog"), a_node("m2", layer="edge"), a_node("m3", layer="edge")]
    result = place(made, fleet, Circumstances())
    assert result.copies == {"a": ("m2", "m3"), "b": ("m2", "m3")}


def test_each_takes_every_admitted_node_also_one_that_is_away() -> None:
    fleet = [a_node("gw1", labels={"role": "gateway"}), a_node("gw2", labels={"role": "gateway"}), a_node("server")]
    fleet[1] = a_node("gw2", labels={"role": "gateway"}, state=NodeState.DISCONNECTED)
    made = one_stage("each", constraints={"node": {"role": "gateway"}})
    assert placed(made, fleet) == ("gw1", "gw2")
    away = [a_node(name, labels={"role": "gateway"}, state=NodeState.DISCONNECTED) for name in ("gw1", "gw2")]
    (problem,) = place(made, away, Circumstances()).problems
    assert problem.message == "no node can run stage a: gw1 is not connected; gw2 is not connected"


def test_a_node_without_a_label_that_a_template_asks_for_is_passed_over() -> None:
    made = one_stage("each", a_queue("{node.label.line}/raw", server="broker"))
    result = place(made, [a_node("gw1", labels={"line": "north"}), a_node("gw2")], Circumstances())
    assert result.copies["a"] == ("gw1",)
    (passed,) = result.passed_over["a"]
    assert (passed.node, passed.reason) == ("gw2", "has no label line, which a template of the document asks for")


def test_a_lone_copy_reads_plainly_and_several_share() -> None:
    (alone,) = specs(one_stage(1))
    assert (alone.sources[0].client_id, alone.sources[0].shared) == ("fogline.c.p.a.q1.0", False)
    two = specs(one_stage(2))
    assert [spec.sources[0].client_id for spec in two] == ["fogline.c.p.a.q1.0", "fogline.c.p.a.q1.1"]
    assert [spec.sinks[0].client_id for spec in two] == ["fogline.c.p.a.q2.0.w", "fogline.c.p.a.q2.1.w"]
    assert {spec.sources[0].group for spec in two} == {"fogline.c.p.a.q1"}
    assert all(spec.sources[0].shared for spec in two)
    assert [spec.assignment_id for spec in two] == ["p/a/0/a", "p/a/1/a"]


@pytest.mark.parametrize(
    ("queue", "shared", "group"),
    [
        (a_queue("raw", server="broker"), True, "fogline.c.p.a.q1"),
        (a_queue("raw", server="localhost"), False, "fogline.c.p.a.q1"),
        (a_queue("{node.name}/raw", server="broker"), False, "fogline.c.p.a.q1.m1"),
        (a_queue("raw", server="{node.name}.plant"), False, "fogline.c.p.a.q1.m1"),
    ],
    ids=["one address", "a broker on each node", "own topic", "own broker"],
)
def test_copies_on_each_node_share_what_they_read_in_common(queue: dict[str, Any], shared: bool, group: str) -> None:
    source = specs(one_stage("each", queue))[0].sources[0]
    assert (source.client_id, source.shared, source.group) == ("fogline.c.p.a.q1.m1", shared, group)


def test_templates_are_filled_in_for_each_node() -> None:
    fleet = [a_node("gw1", layer="edge", labels={"line": "north"})]
    made = one_stage("each", a_queue("{node.layer}/{node.label.line}/{node.name}", server="broker"),
                     environment={"ME": "I am {node.name}"})  # fmt: skip
    (spec,) = specs(made, fleet)
    assert spec.sources[0].options["topic"] == "edge/north/gw1"
    assert spec.environment == {"ME": "I am gw1"}


@pytest.mark.parametrize(
    ("made", "pointer", "words"),
    [
        (one_stage("each", infra="m1"), "/pipeline/a/replicas", "'infra' pins 'a' to one"),
        (one_stage(2, {"connector": "file", "props": {"path": "/data/x.csv"}}), "/pipeline/a/replicas", "file has no"),
        (one_stage(1, a_queue("{node.nmae}")), "/queues/q1/props/topic", "the template '{node.nmae}' is not known"),
        (one_stage(1, environment={"X": "{node.label.}"}), "/pipeline/a/environment/X", "is not known"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(made: Any, pointer: str, words: str) -> None:
    found = [each for each in check(made) if each.severity == "error"]
    assert [each.pointer for each in found] == [pointer]
    assert words in found[0].message


def test_copies_are_one_stage_to_whoever_asks_for_it() -> None:
    made = one_stage(2)
    planned = plan(made, FLEET, Circumstances(), {}, Wiring("c"))
    copies, blobs = copies_of(Planned(made, planned.segments, planned.automatic, {"a": "x"}), "c", FLEET)
    segments = [(copy, parse(blobs[copy.spec_digest])) for copy in copies]
    assert [copy.label for copy, _ in segments_of(segments, "a")] == ["a", "a/1"]
    assert find_taps(segments, "q1") == (list(copies), "q1"), "each of them reads a part"
    assert find_taps(segments, "q2") == (list(copies), "q2")


def test_a_node_that_has_a_copy_was_not_passed_over() -> None:
    planned = plan(one_stage(2), FLEET, Circumstances(), {}, Wiring("c"))
    assert [each.node for each in planned.passed_over["a"]] == ["m3"]
