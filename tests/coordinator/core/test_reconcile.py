"""Reconcile: the life of a deployment against a fleet that is played by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fogline.coordinator.core.deployment import Copy, Deployment, Phase, Seen, Want
from fogline.coordinator.core.orders import restarted, stopped, submitted
from fogline.coordinator.core.reconcile import Step, reconcile
from fogline.coordinator.core.shown import shown_state
from fogline.runtimes.spec import HealthSpec
from fogline.wire.terms import CopyState, Wanted

A1, B1 = (Copy(f"p/{name}/0/a", f"{name}1", "n", name, depth) for depth, name in enumerate("ab"))
A2 = replace(A1, spec_digest="a2")
B2 = replace(B1, spec_digest="b2")
READY, PREPARED, GONE, FAILED = CopyState.READY, CopyState.PREPARED, CopyState.GONE, CopyState.FAILED
RUN, LOAD, PREPARE, STOP = (
    Want(Wanted.RUNNING, bind=True),
    Want(Wanted.RUNNING),
    Want(Wanted.PREPARED),
    Want(Wanted.STOPPED),
)


def _seen(states: Mapping[Copy, CopyState]) -> dict[Copy, Seen]:
    return {copy: Seen(state, "why" if state is FAILED else "") for copy, state in states.items()}


def _step(deployment: Deployment, states: Mapping[Copy, CopyState], now_s: float = 0.0) -> Step:
    return reconcile(deployment, _seen(states), now_s)


def _submitted(*copies: Copy) -> Deployment:
    return submitted(None, 1, copies, {}, 0.0)[0]


def _running(*copies: Copy) -> Deployment:
    deployment = _step(_submitted(*copies), dict.fromkeys(copies, PREPARED)).deployment
    deployment = _step(deployment, dict.fromkeys(copies, READY)).deployment
    step = _step(deployment, dict.fromkeys(copies, READY), 1.5)
    assert step.deployment.phase is Phase.RUNNING
    return step.deployment


def _resubmitted(deployment: Deployment, *copies: Copy, states: Mapping[Copy, CopyState] | None = None) -> Deployment:
    return submitted(deployment, 2, copies, _seen(states or {}), 10.0)[0]


def test_nothing_runs_before_everything_is_prepared() -> None:
    step = _step(_submitted(A1, B1), {A1: PREPARED, B1: CopyState.PREPARING})
    assert step.deployment.phase is Phase.PREPARING
    assert step.wanted == {A1: PREPARE, B1: PREPARE}


def test_all_load_at_once_and_bind_from_downstream_to_upstream() -> None:
    step = _step(_submitted(A1, B1), {A1: PREPARED, B1: PREPARED})
    assert step.wanted == {A1: LOAD, B1: RUN}
    assert _step(step.deployment, {A1: CopyState.LOADED, B1: CopyState.LOADED}).wanted == {A1: LOAD, B1: RUN}
    assert _step(step.deployment, {A1: CopyState.LOADED, B1: READY}).wanted == {A1: RUN, B1: RUN}


def test_ready_counts_only_once_it_held() -> None:
    deployment = _step(_submitted(A1), {A1: PREPARED}).deployment
    step = _step(deployment, {A1: READY}, 5.0)
    assert (step.deployment.phase, step.outcomes, step.wake_in_s) == (Phase.STARTING, (), 1.0)
    lost = _step(step.deployment, {A1: CopyState.RESTARTING}, 5.5)
    assert lost.deployment.ready_since_s is None
    held = _step(step.deployment, {A1: READY}, 6.1)
    assert [(each.revision, each.succeeded) for each in held.outcomes] == [(1, True)]


def test_a_failed_check_fails_a_first_submit_and_leaves_nothing() -> None:
    step = _step(_submitted(A1, B1), {A1: PREPARED, B1: FAILED})
    assert step.deployment.phase is Phase.FAILED
    assert step.outcomes[0].text == "segment b on n: why"
    assert step.wanted == {A1: STOP, B1: STOP}
    assert _step(step.deployment, {A1: GONE, B1: GONE}).wanted == {}


def test_a_failed_check_of_a_new_revision_leaves_the_former_untouched() -> None:
    deployment = _resubmitted(_running(A1, B1), A2, B1)
    step = _step(deployment, {A1: READY, B1: READY, A2: PREPARED})
    assert step.wanted[A1] == STOP
    step = _step(deployment, {A1: READY, B1: READY, A2: FAILED})
    assert (step.deployment.phase, step.deployment.revision) == (Phase.RUNNING, 1)
    assert step.wanted == {A1: RUN, B1: RUN, A2: STOP}
    assert "revision 1 goes on running" in step.outcomes[0].text


def test_what_did_not_change_is_never_asked_to_stop() -> None:
    states = {A1: READY, B1: READY, A2: CopyState.PREPARING}
    deployment = _resubmitted(_running(A1, B1), A2, B1)
    for now_s, change in enumerate([{}, {A2: PREPARED}, {A1: GONE}, {A2: READY}, {}, {}], 10):
        states |= change
        step = _step(deployment, states, float(now_s))
        assert step.wanted[B1] == RUN
        deployment = step.deployment
    assert (deployment.phase, deployment.revision, deployment.leaving) == (Phase.RUNNING, 2, ())


def test_the_old_drain_from_upstream_to_downstream_before_the_new_start() -> None:
    deployment = _resubmitted(_running(A1, B1), A2, B2)
    prepared = {A2: PREPARED, B2: PREPARED}
    step = _step(deployment, prepared | {A1: READY, B1: READY}, 11.0)
    assert step.deployment.phase is Phase.DRAINING
    assert step.wanted == {A1: STOP, B1: RUN, A2: PREPARE, B2: PREPARE}
    step = _step(step.deployment, prepared | {A1: GONE, B1: READY}, 12.0)
    assert step.wanted == {A1: STOP, B1: STOP, A2: PREPARE, B2: PREPARE}
    step = _step(step.deployment, prepared | {A1: GONE, B1: GONE}, 13.0)
    assert step.deployment.phase is Phase.STARTING
    assert step.wanted[B2] == RUN


def test_a_revision_that_does_not_start_is_rolled_back() -> None:
    deployment = _resubmitted(_running(A1), A2)
    deployment = _step(deployment, {A1: READY, A2: PREPARED}, 10.0).deployment
    deployment = _step(deployment, {A1: GONE, A2: PREPARED}, 11.0).deployment
    step = _step(deployment, {A1: GONE, A2: FAILED}, 12.0)
    assert (step.deployment.phase, step.deployment.revision, step.outcomes) == (Phase.ROLLING_BACK, 1, ())
    assert step.wanted == {A1: RUN, A2: STOP}
    deployment = _step(step.deployment, {A1: READY, A2: GONE}, 13.0).deployment
    step = _step(deployment, {A1: READY, A2: GONE}, 14.5)
    assert step.deployment.phase is Phase.RUNNING
    assert [(each.revision, each.succeeded) for each in step.outcomes] == [(2, False)]
    assert "revision 1, which runs again" in step.outcomes[0].text


def test_starting_has_a_deadline_that_says_who_is_late() -> None:
    deployment = _step(_submitted(A1), {A1: PREPARED}).deployment
    patient = HealthSpec(startup_s=200.0, ready_s=50.0)
    seen = {A1: Seen(CopyState.STARTING, "broker away", health=patient)}
    assert reconcile(deployment, seen, 249.0).deployment.phase is Phase.STARTING
    step = reconcile(deployment, seen, 251.0)
    assert step.deployment.phase is Phase.FAILED
    assert step.deployment.reason == "segment a on n was not ready within 250 s; it is starting: broker away"


def test_a_restart_replaces_processes_and_counts_once_the_new_ones_are_ready() -> None:
    deployment = restarted(_running(A1, B1), [B1.assignment], 20.0)
    old = {A1: Seen(READY), B1: Seen(READY)}
    step = reconcile(deployment, old, 20.0)
    assert step.deployment.phase is Phase.RESTARTING
    assert step.wanted == {A1: LOAD, B1: Want(Wanted.RUNNING, bind=True, incarnation=1)}
    assert reconcile(step.deployment, old, 25.0).deployment.phase is Phase.RESTARTING, "the old ones do not count"
    new = old | {B1: Seen(READY, incarnation=1)}
    step = reconcile(step.deployment, new, 26.0)
    assert (step.deployment.phase, step.wanted[A1]) == (Phase.RESTARTING, RUN)
    step = reconcile(step.deployment, new, 27.1)
    assert (step.deployment.phase, step.outcomes) == (Phase.RUNNING, ()), "a restart is no verdict on the revision"
    assert step.wanted[B1].incarnation == 1


def test_a_restart_that_fails_is_shown_and_stops_nothing() -> None:
    deployment = restarted(_running(A1, B1), [B1.assignment], 20.0)
    failed = {A1: Seen(READY), B1: Seen(FAILED, "why", incarnation=1)}
    step = reconcile(deployment, failed, 21.0)
    assert (step.deployment.phase, step.deployment.leaving) == (Phase.RUNNING, ())
    assert shown_state(step.deployment, failed) == ("degraded", "segment b on n is failed: why")


def test_a_document_may_ask_to_stop_instead_of_going_back() -> None:
    deployment = submitted(_running(A1), 2, [A2], {}, 10.0, rolls_back=False)[0]
    deployment = _step(deployment, {A1: READY, A2: PREPARED}, 10.0).deployment
    deployment = _step(deployment, {A1: GONE, A2: PREPARED}, 11.0).deployment
    step = _step(deployment, {A1: GONE, A2: FAILED}, 12.0)
    assert step.deployment.phase is Phase.FAILED
    assert [(each.revision, each.succeeded) for each in step.outcomes] == [(2, False)]


def test_a_segment_that_moved_along_the_graph_keeps_its_process() -> None:
    deeper = replace(B1, depth=2)
    deployment = _resubmitted(_running(A1, B1), A1, deeper, states={A1: READY, B1: READY})
    step = _step(deployment, {A1: READY, B1: READY}, 10.0)
    assert step.deployment.phase is Phase.STARTING, "nothing is new, nothing is drained"
    assert [copy.depth for copy in step.deployment.target] == [0, 2]


def test_a_copy_that_keeps_dying_is_not_waited_for() -> None:
    deployment = _step(_submitted(A1), {A1: PREPARED}).deployment
    step = reconcile(deployment, {A1: Seen(CopyState.RESTARTING, "signal 11", restarts=3)}, 5.0)
    assert "died 3 times before it was ready: signal 11" in step.deployment.reason


def test_stop_goes_from_upstream_to_downstream_and_has_a_deadline() -> None:
    deployment, superseded = stopped(_running(A1, B1), 20.0)
    assert superseded is None
    assert _step(deployment, {A1: READY, B1: READY}, 20.0).wanted == {A1: STOP, B1: RUN}
    assert _step(deployment, {A1: GONE, B1: READY}, 21.0).wanted == {A1: STOP, B1: STOP}
    assert _step(deployment, {A1: GONE, B1: GONE}, 22.0).deployment.phase is Phase.STOPPED
    late = _step(deployment, {A1: GONE, B1: CopyState.UNKNOWN}, 200.0)
    assert late.deployment.phase is Phase.STOPPED
    assert late.wanted == {B1: STOP}
    assert "n: what runs there stops when the node is back" in late.deployment.reason


def test_stop_while_preparing_starts_nothing() -> None:
    deployment, superseded = stopped(_submitted(A1, B1), 1.0)
    assert superseded is not None
    assert not superseded.succeeded
    assert _step(deployment, {A1: PREPARED, B1: PREPARED}, 1.0).wanted == {A1: STOP, B1: STOP}


def test_a_newer_submit_supersedes_one_on_its_way() -> None:
    first = _submitted(A1)
    second, outcome = submitted(first, 2, [A2], {}, 1.0)
    assert outcome is not None
    assert (outcome.revision, outcome.succeeded, outcome.text) == (1, False, "superseded by revision 2")
    assert _step(second, {A1: PREPARED, A2: PREPARED}, 1.0).wanted == {A1: STOP, A2: RUN}


def test_a_failed_copy_ends_before_it_begins_again() -> None:
    running = _running(A1, B1)
    again = _resubmitted(running, A1, B1, states={A1: FAILED, B1: READY})
    step = _step(again, {A1: FAILED, B1: READY}, 10.0)
    assert step.wanted == {A1: STOP, B1: RUN}
    step = _step(step.deployment, {A1: GONE, B1: READY}, 11.0)
    assert step.wanted == {A1: PREPARE, B1: RUN}
    step = _step(step.deployment, {A1: PREPARED, B1: READY}, 12.0)
    assert step.wanted == {A1: RUN, B1: RUN}


def test_degraded_is_shown_with_the_first_reason() -> None:
    deployment = _running(A1, B1)
    assert shown_state(deployment, _seen({A1: READY, B1: READY})) == ("running", "")
    assert shown_state(deployment, _seen({A1: READY, B1: FAILED})) == ("degraded", "segment b on n is failed: why")
    away = {A1: Seen(READY, node_connected=False), B1: Seen(READY)}
    assert shown_state(deployment, away)[1].startswith("node n is not connected")


def test_waiting_for_a_copy_to_end_before_it_begins_again_has_a_deadline() -> None:
    first = submitted(_submitted(A1, B1), 2, [A1, B2], {}, 1.0)[0]
    again = submitted(first, 3, [A1, B1], {}, 2.0)[0]
    states = {A1: PREPARED, B1: PREPARED, B2: PREPARED}
    assert _step(again, states, 3.0).deployment.phase is Phase.PREPARING
    late = _step(again, states, 400.0)
    assert late.deployment.phase is Phase.FAILED
    assert "has not ended" in late.deployment.reason
