"""Which segment listens where, in API mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.needs import lines_of, segment_needs
from fogline.coordinator.core.place import Circumstances
from fogline.coordinator.core.plan import Plan, plan
from fogline.coordinator.core.ports import Ports
from fogline.coordinator.core.wires import Wiring
from fogline.runtimes.options import SERVING_REQUIREMENTS
from support.documents import a_node, document

RANGE = {"first_port": 31000, "last_port": 31001}


def a_chain(*nodes: str, **changes: Any) -> dict[str, Any]:
    """Code stages a, b, ... on these nodes."""
    names = "abcd"[: len(nodes)]
    stages: dict[str, Any] = {}
    for place, (name, node) in enumerate(zip(names, nodes, strict=True)):
        queues = {"input": names[place - 1]} if place else {}
        queues |= {"output": names[place + 1]} if place + 1 < len(names) else {}
        props = {"path": "./code", "entrypoint": "main.py", "function": "handler"}
        stages[name] = {"type": "code", "language": "python", "props": props, "queues": queues, "infra": node}
    return {"version": "1.0", "id": "p", "package-mode": "api", "pipeline": stages} | changes


def wishing(raw: dict[str, Any], **props: Any) -> dict[str, Any]:
    raw["pipeline"]["a"]["props"] |= props
    return raw


def planned(raw: dict[str, Any], *nodes: Node, ports: Ports | None = None) -> Plan:
    return plan(document(raw), nodes, Circumstances(ports=ports or Ports()), {}, Wiring("c"))


def there(found: Plan) -> dict[str, int]:
    assert found.errors == []
    return {name: each.port for name, each in found.servings.items()}


def said(found: Plan, severity: str = "error") -> list[str]:
    return [each.message for each in found.problems if each.severity == severity and "infra map" not in each.message]


def test_the_lowest_free_port_of_the_machine() -> None:
    one = a_node("n1", address="10.0.0.1")
    assert there(planned(a_chain("n1", "n1"), one)) == {"a": 31000}
    others = Ports(others={"n1": {31000: "q"}})
    assert there(planned(a_chain("n1"), one, ports=others)) == {"a": 31001}
    two = [a_node(name, machine_id="m", address="127.0.0.1") for name in ("n1", "n2")]
    assert there(planned(a_chain("n1", "n2"), *two)) == {"a": 31000, "b": 31001}
    shared = Ports(others={"m": {31001: "q"}})
    assert there(planned(a_chain("n1", "n2"), *two, ports=shared)) == {"a": 31000, "b": 31002}


def test_it_stays_where_it_is_unless_it_moves_or_another_is_wished() -> None:
    nodes = [a_node(name, machine_id="m", address="127.0.0.1") for name in ("n1", "n2")]
    had = Ports(own={"a": ("n1", 31005), "b": ("n1", 31000)})
    assert there(planned(a_chain("n1", "n2"), *nodes, ports=had)) == {"a": 31005, "b": 31000}
    assert there(planned(wishing(a_chain("n1", "n2"), port=8080), *nodes, ports=had)) == {"a": 8080, "b": 31000}
    kept = Ports(own={"a": ("n1", 31005), "b": ("n2", 31007)})
    assert there(planned(wishing(a_chain("n1", "n2"), port=31007), *nodes, ports=kept)) == {"a": 31007, "b": 31000}


def test_two_that_want_one_port_are_both_named() -> None:
    node = a_node("n1", address="127.0.0.1")
    found = planned(wishing(a_chain("n1"), port=8080), node, ports=Ports(others={"n1": {8080: "q"}}))
    assert said(found) == ["pipeline p wants port 8080 of node n1, which pipeline q has"]
    assert [each.pointer for each in found.errors] == ["/pipeline/a/props/port"]


def test_when_none_is_left_those_who_have_them_are_named() -> None:
    node = a_node("n1", address="127.0.0.1", **RANGE)
    found = planned(a_chain("n1"), node, ports=Ports(others={"n1": {31000: "q", 31001: "r", 8080: "s"}}))
    assert said(found) == ["segment a needs a port of node n1, and of 31000-31001 none is left: they are taken by q, r"]


def test_a_hop_needs_no_broker_and_an_address_that_is_reached() -> None:
    far = [a_node("n1", address="10.0.0.1"), a_node("n2", address="fe80::2")]
    found = planned(a_chain("n1", "n2"), *far)
    assert found.servings["a"].forward == "http://[fe80::2]:31000"
    assert [(each.name, each.connector) for each in found.links] == [("endpoint", "http"), ("a..b", "http")]
    assert found.links[1].guarantee.startswith("answered or refused: the caller keeps the record")
    lost = planned(a_chain("n1", "n2"), far[0], a_node("n2", address="127.0.0.1"))
    assert said(lost) == [
        "a on n1 cannot hand its records to b: node n2 is known by its loopback address 127.0.0.1, which is on "
        "another machine"
    ]


def test_who_listens_for_all_the_world_should_ask_for_a_token() -> None:
    outside, inside = a_node("n1", address="10.0.0.1"), a_node("n1", address="127.0.0.1")
    token = {"auth": "token", "token": {"secret": "callers"}}
    assert [each[:29] for each in said(planned(a_chain("n1"), outside), "warning")] == ["http://10.0.0.1:31000 listens"]
    assert said(planned(wishing(a_chain("n1"), **token), outside), "warning") == [
        "http://10.0.0.1:31000 takes the token, and all records, in plain sight of the network"
    ]
    certified = a_node("n1", address="10.0.0.1", tls=True)
    assert said(planned(wishing(a_chain("n1"), **token), certified), "warning") == []
    assert [each[:30] for each in said(planned(a_chain("n1"), certified), "warning")] == [
        "https://10.0.0.1:31000 listens"
    ]
    assert said(planned(a_chain("n1"), inside), "warning") == []
    serving = planned(wishing(a_chain("n1"), **token), inside).servings["a"]
    assert (serving.host, serving.token_secret, serving.model) == ("127.0.0.1", "callers", "p")


def test_where_a_node_has_a_certificate_it_is_reached_by_https() -> None:
    addresses = {"n1": "10.0.0.1", "n2": "edge.plant", "n3": "fe80::3"}
    nodes = [a_node(name, address=address, tls=name != "n1") for name, address in addresses.items()]
    found = planned(a_chain("n1", "n2", "n3"), *nodes)
    assert [each.address for each in found.links] == [
        "http://10.0.0.1:31000",
        "https://edge.plant:31000",
        "https://[fe80::3]:31000",
    ]
    assert [(each.tls_name, each.forward) for each in found.servings.values()] == [
        ("", "https://edge.plant:31000"),
        ("edge.plant", "https://[fe80::3]:31000"),
        ("fe80::3", ""),
    ]
    plain = planned(a_chain("n1", "n2"), *(replace(each, tls=False) for each in nodes[:2]))
    assert [each.tls_name for each in plain.servings.values()] == ["", ""]


def test_a_node_without_a_server_is_passed_over_where_stages_run_in_the_agents_environment() -> None:
    fleet = [a_node("n1", address="127.0.0.1", lacks=("serving",))]
    (why,) = planned(a_chain("n1"), *fleet).errors
    assert why.message.endswith("n1, which has no HTTP server for API mode installed: fogline[serving]")
    assert there(planned(a_chain("n1"), replace(fleet[0], environments="store", python="3.11.7")))["a"] == 31000
    assert there(planned(a_chain("n1"), replace(fleet[0], lacks=())))["a"] == 31000


def test_a_served_segment_needs_a_server() -> None:
    raw = a_chain("n1")
    streaming = document(raw | {"package-mode": "stream"})
    assert set(SERVING_REQUIREMENTS) <= set(lines_of(segment_needs(document(raw), ["a"], {}, {})))
    assert not set(SERVING_REQUIREMENTS) & set(lines_of(segment_needs(streaming, ["a"], {}, {})))
