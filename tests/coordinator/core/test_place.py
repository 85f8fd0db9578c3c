"""Place: pins, neighbours, filters, scores, and why not."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.core.fleet import Node, NodeState, node_state
from fogline.coordinator.core.place import Circumstances, Placement, place
from support.documents import a_fused_pipeline, a_node, a_pipeline, document

FLEET = [a_node("cloud", layer="cloud", cpus=16.0), a_node("edge", layer="edge"), a_node("fog", layer="fog")]


def _place(raw: dict[str, Any], fleet: list[Node] = FLEET, **given: Any) -> Placement:
    return place(document(raw), fleet, Circumstances(**given))


def _messages(placement: Placement) -> str:
    return "\n".join(each.message for each in placement.problems)


def test_pins_go_by_name_then_by_hostname() -> None:
    raw = a_pipeline(infra={"m1": {"hostname": "edge"}, "m2": {"hostname": "fog.host"}, "cloud": {}})
    for stage, machine in (("a", "m1"), ("b", "m2"), ("c", "cloud")):
        raw["pipeline"][stage]["infra"] = machine
    assert _place(raw).nodes == {"a": "edge", "b": "fog", "c": "cloud"}


def test_an_unknown_machine_is_one_problem_that_names_who_joined() -> None:
    raw = a_pipeline(infra={"m1": {"hostname": "mars"}})
    for stage in raw["pipeline"].values():
        stage["infra"] = "m1"
    (problem,) = _place(raw).problems
    assert problem.message == "no node mars has joined; known: cloud, edge, fog"
    assert problem.pointer == "/infra/m1/hostname"


def test_a_hostname_of_two_nodes_is_an_error() -> None:
    raw = a_pipeline(infra={"m1": {"hostname": "twin"}})
    raw["pipeline"]["a"]["infra"] = "m1"
    twins = [a_node("x", hostname="twin"), a_node("y", hostname="twin")]
    assert "hostname of several nodes (x, y)" in _messages(_place(raw, twins))


def test_a_pinned_node_that_is_away_fails_with_that_reason() -> None:
    raw = a_pipeline(infra={"m1": {"hostname": "edge"}})
    raw["pipeline"]["a"]["infra"] = "m1"
    fleet = [a_node("edge", state=NodeState.DISCONNECTED), a_node("fog")]
    assert "stage a is pinned to node edge, which is disconnected" in _messages(_place(raw, fleet))


def test_an_unpinned_stage_follows_its_pinned_neighbour() -> None:
    raw = a_fused_pipeline(infra={"m1": {"hostname": "edge"}})
    raw["pipeline"]["b"]["infra"] = "m1"
    assert _place(raw).nodes == {"a": "edge", "b": "edge", "c": "edge"}


def test_a_neighbour_without_room_is_not_followed() -> None:
    raw = a_fused_pipeline(infra={"m1": {"hostname": "edge"}})
    raw["pipeline"]["b"]["infra"] = "m1"
    raw["pipeline"]["c"]["resources"] = {"cpus": 8}
    assert _place(raw).nodes == {"a": "edge", "b": "edge", "c": "cloud"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"constraints": {"node": {"layer": "moon"}}}, "has layer edge, not moon"),
        ({"constraints": {"node": {"zone": "a"}}}, "has no label zone=a"),
        ({"resources": {"cpus": 64}}, "CPUs free of the 64 asked for"),
        ({"resources": {"memory": "100GiB"}}, "of memory free of the 102400 MiB asked for"),
    ],
)
def test_a_stage_nobody_can_run_names_why_not_for_every_node(change: dict[str, Any], reason: str) -> None:
    raw = a_pipeline()
    raw["pipeline"]["a"] |= change
    placement = _place(raw)
    assert "a" not in placement.nodes
    assert reason in _messages(placement)
    assert all(f"{node.name} has" in _messages(placement) for node in FLEET)


def test_a_model_goes_only_where_its_runtime_is() -> None:
    raw = a_pipeline()
    raw["pipeline"]["b"] |= {"type": "model", "framework": "onnx", "props": {"path": "m.onnx"}}
    del raw["pipeline"]["b"]["language"]
    fleet = [a_node("bare", frameworks=()), a_node("full", cpus=1.0)]
    placement = _place(raw, fleet)
    assert placement.nodes["b"] == "full"
    assert [(each.node, each.reason) for each in placement.passed_over["b"]] == [
        ("bare", "has no onnx runtime installed")
    ]


def test_scores_prefer_where_it_runs_now_then_fewer_links_then_room() -> None:
    assert set(_place(a_fused_pipeline()).nodes.values()) == {"cloud"}
    assert set(_place(a_fused_pipeline(), running={"a": "edge"}).nodes.values()) == {"edge"}
    assert set(_place(a_fused_pipeline(), used_cpus={"cloud": 15.0}).nodes.values()) == {"edge"}
    raw = a_pipeline(infra={"m": {"hostname": "fog"}})
    raw["pipeline"]["a"]["infra"] = "m"
    assert _place(raw).nodes == {"a": "fog", "b": "fog", "c": "fog"}


def test_local_means_the_submitters_machine_whatever_is_pinned() -> None:
    raw = a_pipeline(infra={"m": {"hostname": "mars"}}) | {"deploy-mode": "local"}
    raw["pipeline"]["a"]["infra"] = "m"
    assert set(_place(raw, machine_id="fog").nodes.values()) == {"fog"}
    two = [a_node("b2", machine_id="m"), a_node("a1", machine_id="m")]
    assert set(_place(raw, two, machine_id="m").nodes.values()) == {"a1"}


def test_local_without_an_agent_here_offers_coord_run() -> None:
    (problem,) = _place(a_pipeline() | {"deploy-mode": "local"}, machine_id="elsewhere").problems
    assert "coord run" in problem.hint


def test_placement_does_not_depend_on_the_order_of_the_fleet() -> None:
    assert _place(a_pipeline(), FLEET) == _place(a_pipeline(), FLEET[::-1])


@pytest.mark.parametrize(
    ("connected", "silent_s", "state"),
    [
        (True, 0.0, NodeState.CONNECTED),
        (True, 29.0, NodeState.CONNECTED),
        (True, 30.0, NodeState.SUSPECT),
        (False, 0.0, NodeState.SUSPECT),
        (True, 60.0, NodeState.DISCONNECTED),
        (False, 3600.0, NodeState.DISCONNECTED),
    ],
)
def test_a_lease_runs_out_in_two_steps(connected: bool, silent_s: float, state: NodeState) -> None:
    assert node_state(connected=connected, silent_s=silent_s) is state


def test_a_node_that_makes_environments_needs_nothing_installed() -> None:
    raw = a_pipeline()
    raw["pipeline"]["b"] |= {"type": "model", "framework": "tflite", "props": {"path": "m.tflite"}}
    del raw["pipeline"]["b"]["language"]
    bare = [
        a_node("own", frameworks=(), connectors=()),
        a_node("store", frameworks=(), connectors=(), environments="store"),
    ]
    placement = _place(raw, bare)
    assert placement.nodes["b"] == "store"
    assert [each.reason for each in placement.passed_over["b"]] == ["has no tflite runtime installed"]
    raw["queues"]["q1"] |= {"connector": "websocket", "props": {"server": "x", "port": 1, "topic": "t"}}
    assert _place(raw, bare[:1]).problems
    assert not _place(raw, bare[1:]).problems


@pytest.mark.parametrize("serializer", [None, "joblib", "pickle"])
def test_a_node_that_refuses_pickles_gets_none(serializer: str | None) -> None:
    raw = a_pipeline()
    props = {"path": "m.pkl"} | ({"serializer": serializer} if serializer else {})
    raw["pipeline"]["b"] |= {"type": "model", "framework": "scikit-learn", "props": props}
    del raw["pipeline"]["b"]["language"]
    fleet = [a_node("strict", cpus=16.0, refuses=("pickle",)), a_node("trusting", cpus=1.0)]
    placement = _place(raw, fleet)
    assert (placement.nodes["a"], placement.nodes["b"]) == ("strict", "trusting")
    assert [each.reason for each in placement.passed_over["b"]] == ["refuses pickle models: save it as ONNX"]
    raw["pipeline"]["b"] |= {"framework": "onnx", "props": {"path": "m.onnx"}}
    assert _place(raw, fleet).nodes["b"] == "strict"


def test_a_container_needs_an_engine_and_an_environment() -> None:
    boxed = a_pipeline(containerized=True)
    assert "edge has no container engine" in _messages(_place(boxed))
    own = [a_node("edge", drivers=("process", "docker"))]
    assert "edge makes no environments, of which a container needs one" in _messages(_place(boxed, own))
    able = a_node("fog", drivers=("process", "docker"), environments="store")
    assert _place(boxed, [*own, able]).nodes == {"a": "fog", "b": "fog", "c": "fog"}
    alone = a_pipeline()
    alone["pipeline"]["b"]["containerized"] = True
    assert _place(alone, [*own, able]).nodes["b"] == "fog"
    only_boxes = [a_node("fog", drivers=("docker",), environments="store")]
    assert "has no driver for native processes" in _messages(_place(alone, only_boxes))
    assert _place(boxed, only_boxes).problems == []
