"""Deployments whose input ends: the verdict, what it is among others that go on, and how it begins again."""

from __future__ import annotations

from dataclasses import replace

from fogline.coordinator.core.deployment import Copy, Deployment, Phase, Seen
from fogline.coordinator.core.events import copy_events, turn_events
from fogline.coordinator.core.imports import Held, taken_over
from fogline.coordinator.core.orders import restarted, stopped, submitted
from fogline.coordinator.core.reconcile import reconcile
from fogline.coordinator.core.shown import shown_state
from fogline.wire.terms import CopyState, Wanted

A, B = (Copy(f"p/{name}/0/a", f"{name}1", "n", name, depth) for depth, name in enumerate("ab"))
B2 = replace(B, spec_digest="b2")
ENDED = Seen(CopyState.FINISHED, "end of input: 3 in, 3 out")
READY, GONE = Seen(CopyState.READY), Seen(CopyState.GONE)
RUNNING = Deployment("p", 1, Phase.RUNNING, 0.0, (A, B))
FINISHED = replace(RUNNING, phase=Phase.FINISHED, reason="...")


def test_when_every_segment_has_come_to_its_end_the_deployment_has_finished() -> None:
    step = reconcile(RUNNING, {A: ENDED, B: ENDED}, 5.0)
    assert shown_state(step.deployment, {}) == ("finished", f"a: {ENDED.reason}; b: {ENDED.reason}")
    assert step.wake_in_s is None
    (event,) = turn_events(RUNNING, step.deployment, [])
    assert event.text == f"finished: a: {ENDED.reason}; b: {ENDED.reason}"
    assert {each.wanted for each in step.wanted.values()} == {Wanted.RUNNING}, "absence and STOPPED would lose it"


def test_one_of_several_is_neither_a_verdict_nor_a_failure() -> None:
    observed = {A: replace(ENDED, node_connected=False), B: READY}
    step = reconcile(RUNNING, observed, 5.0)
    assert step.deployment == RUNNING
    assert shown_state(RUNNING, observed) == ("running", "")


def test_it_is_told_once_and_not_again_by_the_next_coordinator() -> None:
    events, told = copy_events(RUNNING, {}, {A: READY, B: READY})
    events, told = copy_events(RUNNING, told, {A: ENDED, B: READY})
    assert [each.text for each in events] == [f"finished: {ENDED.reason}"]
    assert copy_events(RUNNING, told, {A: ENDED, B: READY})[0] == []
    assert copy_events(FINISHED, {}, {A: ENDED, B: ENDED})[0] == []


def test_input_that_ends_before_anything_was_seen_ready_is_a_success() -> None:
    starting = replace(RUNNING, phase=Phase.STARTING, target=(A,))
    held = reconcile(starting, {A: replace(ENDED, restarts=5)}, 5.0)
    assert held.deployment.phase is Phase.STARTING
    step = reconcile(held.deployment, {A: ENDED}, 6.1)
    assert step.deployment.phase is Phase.FINISHED
    assert [(each.succeeded, each.text) for each in step.outcomes] == [
        (True, f"revision 1 is finished: {ENDED.reason}")
    ]


def test_a_submit_ends_what_there_is_and_begins_all_of_it_again() -> None:
    observed = {A: ENDED, B: ENDED}
    fresh, superseded = submitted(FINISHED, 2, (A, B2), observed, 9.0)
    assert (superseded, fresh.former, set(fresh.leaving)) == (None, (), {A, B})
    step = reconcile(fresh, observed, 9.0)
    assert step.deployment.phase is Phase.PREPARING
    assert {copy: want.wanted for copy, want in step.wanted.items()} == {
        A: Wanted.STOPPED, B: Wanted.STOPPED, B2: Wanted.PREPARED
    }  # fmt: skip
    step = reconcile(step.deployment, {A: GONE, B: GONE}, 10.0)
    assert step.wanted[A].wanted is Wanted.PREPARED
    prepared = Seen(CopyState.PREPARED)
    step = reconcile(step.deployment, {A: prepared, B2: prepared}, 11.0)
    assert step.deployment.phase is Phase.STARTING


def test_of_a_revision_that_replaces_another_segment_it_stays_as_it_is() -> None:
    observed = {A: ENDED, B: READY, B2: Seen(CopyState.PREPARED)}
    fresh, _ = submitted(RUNNING, 2, (A, B2), observed, 9.0)
    assert fresh.leaving == ()
    step = reconcile(fresh, observed, 9.0)
    assert step.deployment.phase is Phase.DRAINING
    step = reconcile(step.deployment, {A: ENDED, B: GONE, B2: READY}, 10.0)
    step = reconcile(step.deployment, {A: ENDED, B: GONE, B2: READY}, 12.0)
    assert step.deployment.phase is Phase.RUNNING


def test_a_segment_that_is_restarted_has_not_finished_by_what_it_did_before() -> None:
    again = restarted(replace(RUNNING, target=(A,)), [A.assignment], 5.0)
    step = reconcile(again, {A: ENDED}, 8.0)
    assert step.deployment.phase is Phase.RESTARTING
    step = reconcile(again, {A: replace(ENDED, incarnation=1)}, 8.0)
    step = reconcile(step.deployment, {A: replace(ENDED, incarnation=1)}, 10.0)
    assert step.deployment.phase is Phase.FINISHED


def test_stop_makes_it_stopped() -> None:
    stopping, _ = stopped(FINISHED, 5.0)
    step = reconcile(stopping, {A: ENDED, B: ENDED}, 5.0)
    assert {each.wanted for each in step.wanted.values()} == {Wanted.STOPPED}
    assert reconcile(step.deployment, {A: GONE, B: GONE}, 6.0).deployment.phase is Phase.STOPPED


def test_what_a_lost_store_forgot_is_taken_over_as_finished() -> None:
    held = [Held(copy, Wanted.RUNNING, 3) for copy in (A, B)]
    found = taken_over(None, "n", held, {}, 5.0)
    assert found is not None
    assert reconcile(found, {A: ENDED, B: ENDED}, 6.0).deployment.phase is Phase.FINISHED


def test_one_node_of_several_takes_nothing_away_from_what_has_finished() -> None:
    there = replace(B, node="m")
    known = replace(FINISHED, target=(A, there))
    found = taken_over(known, "n", [Held(A, Wanted.RUNNING, 1)], {A: 1, there: 1}, 5.0)
    assert found is not None
    assert (found.target, found.leaving) == ((A, there), ())
    assert reconcile(found, {A: ENDED, there: ENDED}, 6.0).deployment.phase is Phase.FINISHED
