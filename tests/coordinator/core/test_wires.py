"""Automatic queues: where they are made, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.config import CoordinatorConfig
from fogline.coordinator.core.place import Circumstances
from fogline.coordinator.core.plan import Plan, plan
from fogline.coordinator.core.wires import Wiring
from fogline.wire.terms import FoglineError
from support.documents import a_fused_pipeline, a_node, a_queue, a_stage, document

HERE, THERE = a_node("m1"), a_node("m2")
SAME = a_node("m3", machine_id="m1")


def planned(raw: dict[str, Any], wiring: Wiring, *nodes: Any) -> Plan:
    return plan(document(raw), nodes or (HERE, THERE, SAME), Circumstances(), {}, wiring)


def apart(server: str = "broker", other: str = "m2", **queues: Any) -> dict[str, Any]:
    """a on m1, b and c on another node, linked directly; the queues at both ends are on `server`."""
    stages = {
        "a": a_stage("q1", "b", infra="m1"),
        "b": a_stage("a", "c", infra=other),
        "c": a_stage("b", "q4", infra=other),
    }
    ends = {"q1": a_queue("t1", server=server), "q4": a_queue("t4", server=server)}
    return a_fused_pipeline(pipeline=stages, queues=queues or ends, infra={"m1": {}, other: {}})


def test_a_cut_link_is_a_queue_at_the_broker_of_the_first_one() -> None:
    found = planned(apart(), Wiring("plant"))
    assert found.errors == []
    ((link, queue),) = found.automatic.items()
    assert (link, queue.props) == (
        ("a", "b"),
        {"server": "broker", "port": 1883, "topic": "fogline/plant/p/a..b"},
    )
    wires = {each.name: (each.connector, each.address, each.guarantee) for each in found.links}
    assert wires["b..c"][0] == "memory"
    assert wires["a..b"][:2] == ("mqtt", "mqtt://broker:1883/fogline/plant/p/a..b")
    assert wires["a..b"][2].endswith("automatic, since a runs on m1, b on m2")


def test_metadata_and_format_of_that_one_are_not_its() -> None:
    first = a_queue("t1", metadata="_meta", format="json", username="edge")
    (queue,) = planned(apart(q1=first, q4=a_queue("t4")), Wiring("plant")).automatic.values()
    assert set(queue.props) == {"server", "port", "topic", "username"}


def test_the_coordinators_own_broker_comes_first() -> None:
    found = planned(apart(), Wiring("plant", {"server": "fog", "port": 1999}))
    (queue,) = found.automatic.values()
    assert (queue.props["server"], queue.props["port"]) == ("fog", 1999)


def test_without_a_broker_the_link_and_both_ways_out_are_named() -> None:
    other = {"connector": "kafka", "props": {"server": "k", "topic": "t"}}
    (problem,) = [each for each in planned(apart(q1=other, q4=other), Wiring()).errors if "direct link" in each.message]
    assert problem.pointer == "/pipeline/a/queues/output"
    assert "a -> b cannot stay in one process (a runs on m1, b on m2), and there is no broker" in problem.message
    assert "--default-broker mqtt://HOST:PORT, or declare an MQTT queue between a and b" in problem.hint


def test_a_broker_that_every_machine_looks_for_on_itself_is_warned_of() -> None:
    found = planned(apart("localhost"), Wiring())
    assert found.errors == []
    (warned,) = [each for each in found.problems if "on itself" in each.message]
    assert "the automatic queue a..b is on localhost" in warned.message
    assert "(m1 and m2)" in warned.message


def test_so_is_a_declared_queue() -> None:
    stages = {"a": a_stage("q1", "q2", infra="m1"), "b": a_stage("q2", "q3", infra="m2")}
    queues = {f"q{n}": a_queue(f"t{n}", server="127.0.0.1") for n in (1, 2, 3)}
    raw = a_fused_pipeline(pipeline=stages, queues=queues, infra={"m1": {}, "m2": {}})
    (warned,) = planned(raw, Wiring()).problems
    assert (warned.severity, warned.pointer) == ("warning", "/queues/q2")


def test_two_agents_of_one_machine_share_its_broker() -> None:
    assert planned(apart("localhost", "m3"), Wiring()).problems == ()


@pytest.mark.parametrize(
    ("given", "broker"),
    [
        ("", {}),
        ("mqtt://fog", {"server": "fog", "port": 1883}),
        ("mqtt://10.0.0.7:1884", {"server": "10.0.0.7", "port": 1884}),
        ("mqtt://[::1]:1884/", {"server": "::1", "port": 1884}),
    ],
)
def test_the_default_broker_is_read(given: str, broker: dict[str, Any], tmp_path: Any) -> None:
    assert CoordinatorConfig("127.0.0.1:1", tmp_path, default_broker=given).broker == broker


@pytest.mark.parametrize("given", ["fog:1883", "mqtt://", "kafka://fog", "mqtt://user:pw@fog", "mqtt://fog/topic"])
def test_a_default_broker_that_is_none_is_refused(given: str, tmp_path: Any) -> None:
    with pytest.raises(FoglineError, match="is not mqtt://HOST:PORT"):
        CoordinatorConfig("127.0.0.1:1", tmp_path, default_broker=given)


def test_qos_0_of_a_queue_is_told_and_not_taken_over_by_an_automatic_one() -> None:
    made = planned(apart(q1=a_queue("t1", qos=0), q4=a_queue("t4")), Wiring("c"))
    guarantees = {each.name: each.guarantee for each in made.links}
    assert guarantees["q1"].startswith("at most once")
    assert guarantees["a..b"].startswith("at least once")
    assert all("qos" not in queue.props for queue in made.automatic.values())
