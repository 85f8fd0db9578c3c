"""What a coordinator makes of copies that its store does not know."""

from __future__ import annotations

from dataclasses import replace

from fogline.coordinator.core.deployment import Copy, Deployment, Phase
from fogline.coordinator.core.imports import Held, in_order, taken_over
from fogline.runtimes.spec import EndpointSpec, SegmentSpec, StageSpec
from fogline.wire.terms import Wanted

A, B = (Copy(f"p/{name}/0/a", f"{name}1", f"n-{name}", name, 0) for name in "ab")
A2 = replace(A, spec_digest="a2")


def _held(copy: Copy, revision: int = 1, wanted: Wanted = Wanted.RUNNING, incarnation: int = 0) -> Held:
    return Held(copy, wanted, revision, incarnation)


def _taken(deployment: Deployment | None, copy_node: str, *held: Held, **labels: int) -> Deployment:
    known = {copy: labels[copy.segment] for copy in (A, B) if copy.segment in labels}
    found = taken_over(deployment, copy_node, held, known, 5.0)
    assert found is not None
    return found


def test_an_empty_store_takes_over_node_by_node() -> None:
    first = _taken(None, A.node, _held(A, 3, incarnation=2))
    assert (first.id, first.revision, first.phase, first.target) == ("p", 3, Phase.RUNNING, (A,))
    assert first.incarnations == {A.assignment: 2}, "the next restart must be a higher one"
    both = _taken(first, B.node, _held(B, 4))
    assert (both.revision, both.target, both.leaving) == (4, (A, B), ())


def test_nothing_is_made_of_copies_that_do_not_run() -> None:
    assert taken_over(None, A.node, [_held(A, wanted=Wanted.PREPARED)], {}, 5.0) is None


def test_what_does_not_run_beside_what_does_is_cleared_away() -> None:
    found = _taken(None, A.node, _held(A), _held(A2, 2, Wanted.PREPARED))
    assert (found.target, found.leaving) == ((A,), (A2,))


def test_an_older_store_learns_of_a_newer_revision() -> None:
    old = Deployment("p", 1, Phase.RUNNING, 0.0, (A, B))
    found = _taken(old, A.node, _held(A2, 2), a=1, b=1)
    assert (found.revision, found.phase, found.target) == (2, Phase.RUNNING, (A2, B))
    assert found.leaving == (A,), "listed as stopped: its node has it no more, and says so"


def test_an_older_store_in_the_middle_of_a_submit_ends_at_what_runs() -> None:
    middle = Deployment("p", 2, Phase.DRAINING, 0.0, (A2, B), 1, (A, B))
    assert _taken(middle, A.node, _held(A2, 2)).target == (A2, B)
    back = _taken(middle, A.node, _held(A, 1))
    assert (back.phase, back.target, back.former) == (Phase.RUNNING, (A, B), ())


def test_a_stopped_deployment_that_was_started_again_runs() -> None:
    old = Deployment("p", 1, Phase.STOPPED, 0.0, (A, B))
    found = _taken(old, A.node, _held(A, 2))
    assert (found.phase, found.revision, found.target) == (Phase.RUNNING, 2, (A,))


def test_what_the_node_holds_no_more_is_not_started_again() -> None:
    old = Deployment("p", 1, Phase.RUNNING, 0.0, (A, B))
    found = _taken(old, B.node)
    assert (found.phase, found.target, found.leaving) == (Phase.RUNNING, (A,), (B,))
    gone = _taken(replace(old, target=(B,)), B.node)
    assert (gone.phase, gone.leaving) == (Phase.STOPPED, (B,))


def test_of_two_nodes_with_one_assignment_the_later_revision_wins() -> None:
    moved = replace(A, node="elsewhere")
    old = Deployment("p", 2, Phase.RUNNING, 0.0, (A, B))
    kept = _taken(old, "elsewhere", _held(moved, 1), a=2, b=1)
    assert (kept.target, kept.leaving) == ((A, B), (moved,))
    won = _taken(old, "elsewhere", _held(moved, 3), a=2, b=1)
    assert (won.revision, set(won.target), won.leaving) == (3, {moved, B}, (A,))


def test_the_order_of_draining_and_binding_is_found_in_the_specs() -> None:
    def spec(reads: str, writes: str) -> SegmentSpec:
        source, sink = (EndpointSpec(queue, "s", "mqtt", {}, "id") for queue in (reads, writes))
        return SegmentSpec("p", "s", "0", "a", "c", (), (source,), (sink,))

    specs = {A.spec_digest: spec("q2", "q3"), B.spec_digest: spec("q1", "q2")}
    assert {copy.segment: copy.depth for copy in in_order([A, B], specs)} == {"b": 0, "a": 1}


def test_so_it_is_where_requests_go_on_without_queues() -> None:
    def spec(reads: tuple[str, ...], writes: tuple[str, ...]) -> SegmentSpec:
        return SegmentSpec("p", "s", "0", "a", "c", (StageSpec("s", "code", reads, writes),))

    specs = {A.spec_digest: spec(("b..a",), ()), B.spec_digest: spec((), ("b..a",))}
    assert {copy.segment: copy.depth for copy in in_order([A, B], specs)} == {"b": 0, "a": 1}
