"""WebSocket queues: who listens, which shapes that allows, and what `coord plan` promises of each."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.core.place import Circumstances
from fogline.coordinator.core.plan import Plan, plan
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.check import check
from support.documents import a_node, a_pipeline, a_queue, a_stage, document

CONNECTORS = ("mqtt", "websocket")


def a_websocket(topic: str, **props: Any) -> dict[str, Any]:
    return {"connector": "websocket", "props": {"server": "edge1", "port": 8765, "topic": topic, **props}}


def problems(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """(pointer, message) of every error."""
    found = document(raw)
    return [(each.pointer, each.message) for each in (*check(found), *unavailable(found)) if each.severity == "error"]


def planned(raw: dict[str, Any]) -> Plan:
    nodes = [a_node(name, connectors=CONNECTORS) for name in ("m1", "m2")]
    return plan(document(raw), nodes, Circumstances(), {}, Wiring())


def with_queues(**queues: Any) -> dict[str, Any]:
    return a_pipeline(queues=a_pipeline()["queues"] | queues)


def test_a_websocket_queue_is_a_queue() -> None:
    raw = with_queues(q2=a_websocket("t2"), q3=a_websocket("t3", role="connect", server="edge2", format="text"))
    assert problems(raw) == []


@pytest.mark.parametrize(
    ("props", "pointer", "message"),
    [
        ({"topic": ""}, "/queues/q2/props/topic", "topic must be a string that is not empty"),
        ({"port": 0}, "/queues/q2/props/port", "port must be an integer between 1 and 65535, not 0"),
        ({"role": "lisen"}, "/queues/q2/props/role", "role must be 'listen' or 'connect', not 'lisen'"),
        ({"tls": {}}, "/queues/q2/props/tls", "the websocket option 'tls' is not available yet"),
        ({"rol": "listen"}, "/queues/q2/props/rol", "not an option of connector 'websocket'; did you mean 'role'?"),
    ],
)
def test_an_option_that_is_wrong_is_named(props: dict[str, Any], pointer: str, message: str) -> None:
    ((found, words),) = problems(with_queues(q2=a_websocket(**({"topic": "t2"} | props))))
    assert found == pointer
    assert message in words


def test_the_port_must_be_given() -> None:
    queue = a_websocket("t2")
    del queue["props"]["port"]
    assert problems(with_queues(q2=queue)) == [("/queues/q2/props", "connector 'websocket' needs the option 'port'")]


def two_stages(first: tuple[str, str], second: tuple[str, str], **queues: Any) -> dict[str, Any]:
    all_queues = {f"q{number}": a_queue(f"t{number}") for number in range(1, 5)} | queues
    return a_pipeline(pipeline={"a": a_stage(*first), "b": a_stage(*second)}, queues=all_queues)


@pytest.mark.parametrize("role", [{}, {"role": "connect"}])
def test_a_second_reading_stage_is_refused(role: dict[str, str]) -> None:
    raw = two_stages(("q1", "q2"), ("q1", "q3"), q1=a_websocket("t1", **role))
    message = "stages a, b all read the WebSocket queue 'q1', which has one reading end"
    assert problems(raw) == [("/pipeline/b/queues/input", message)]


def test_several_writers_may_connect_but_not_listen() -> None:
    reading = {"c": a_stage("q2", "q4")}
    for props, refused in (({}, False), ({"role": "connect"}, True)):
        raw = two_stages(("q1", "q2"), ("q3", "q2"), q2=a_websocket("t2", **props))
        raw["pipeline"] |= reading
        found = problems(raw)
        assert bool(found) == refused
        assert all(
            "stages a, b all write" in message and pointer.startswith("/pipeline/b") for pointer, message in found
        )


def test_several_writers_of_a_foreign_reader_may_connect_but_not_listen() -> None:
    for props, refused in (({}, False), ({"role": "connect"}, False), ({"role": "listen"}, True)):
        raw = two_stages(("q1", "q2"), ("q3", "q2"), q2=a_websocket("t2", **props))
        assert bool(problems(raw)) == refused


def test_two_queues_that_listen_on_one_port_are_refused() -> None:
    raw = with_queues(q2=a_websocket("t2"), q3=a_websocket("t3"))
    message = "queues 'q2' and 'q3' listen on the same port of edge1"
    assert problems(raw) == [("/queues/q3/props/port", message)]
    assert problems(with_queues(q2=a_websocket("t2"), q3=a_websocket("t3", server="edge2"))) == []
    assert problems(with_queues(q1=a_websocket("t1", role="connect"), q4=a_websocket("t4"))) == []


@pytest.mark.parametrize(
    ("queue", "props", "begins", "ends"),
    [
        ("q1", {}, "weaker: a foreign writer", "is lost"),
        ("q1", {"role": "connect"}, "weaker: a foreign writer", "is lost"),
        ("q2", {}, "at least once, by an acknowledged link", "is away"),
        ("q2", {"role": "connect"}, "at least once, by an acknowledged link", "is away"),
        ("q4", {}, "weaker: a foreign reader", "having read it"),
        ("q4", {"role": "listen"}, "weaker: a foreign reader", "counted as unrouted"),
    ],
)
def test_the_plan_says_what_each_wire_promises(queue: str, props: dict[str, str], begins: str, ends: str) -> None:
    found = planned(with_queues(**{queue: a_websocket("t", **props)}))
    assert found.errors == []
    link = next(each for each in found.links if each.name == queue)
    assert link.guarantee.startswith(begins)
    assert link.guarantee.endswith(ends)
    assert link.address == "ws://edge1:8765/t"
    others = {each.guarantee for each in found.links if each.name != queue}
    assert others == {"at least once, as long as the broker keeps what it acknowledged"}


def test_a_node_without_the_library_is_passed_over() -> None:
    raw = with_queues(q2=a_websocket("t2"))
    found = plan(document(raw), [a_node("m1"), a_node("m2", connectors=CONNECTORS)], Circumstances(), {}, Wiring())
    assert found.errors == []
    assert [(segment.stages, segment.node) for segment in found.segments][:2] == [(("a",), "m2"), (("b",), "m2")]
    assert [(each.node, each.reason) for each in found.passed_over["a"]] == [
        ("m1", "has no websocket connector installed")
    ]


def a_circle(**queues: Any) -> dict[str, Any]:
    """a -> b over q2, b -> c over q3, and a and c linked directly."""
    stages = {"a": a_stage("q1", "q2"), "b": a_stage("q2", "q3"), "c": a_stage("q3", "q4")}
    stages["a"]["queues"]["output"], stages["c"]["queues"]["input"] = ["q2", "c"], ["q3", "a"]
    return with_queues(**queues) | {"pipeline": stages}


def test_links_that_lead_back_to_a_process_are_refused() -> None:
    found = planned(a_circle(q2=a_websocket("t2"), q3=a_websocket("t3", port=8766)))
    assert {each.pointer for each in found.errors} == {"/queues/q2", "/queues/q3"}
    assert all("would wait for its own acknowledgement" in each.message for each in found.errors)


@pytest.mark.parametrize("queues", [{"q2": a_websocket("t2")}, {"q3": a_websocket("t3")}, {}])
def test_a_circle_with_a_broker_in_it_is_none(queues: dict[str, Any]) -> None:
    assert planned(a_circle(**queues)).errors == []


def test_a_queue_from_a_process_to_itself_is_refused() -> None:
    raw = a_circle(q2=a_websocket("t2"))
    raw["pipeline"]["c"]["queues"]["input"] = ["q2", "a"]
    del raw["pipeline"]["b"], raw["queues"]["q3"]
    (problem,) = planned(raw).errors
    assert problem.pointer == "/queues/q2"


def test_a_link_on_loopback_between_machines_is_warned_of() -> None:
    raw = with_queues(q2=a_websocket("t2", server="localhost"))
    raw["infra"] = {"m1": {}, "m2": {}}
    raw["pipeline"]["a"]["infra"], raw["pipeline"]["b"]["infra"] = "m1", "m2"
    (warned,) = [each for each in planned(raw).problems if "queue q2 is on localhost" in each.message]
    assert "looks for the end that listens on itself" in warned.message
