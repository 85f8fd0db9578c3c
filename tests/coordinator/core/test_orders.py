"""Orders in the middle of something, and what is called back without one."""

from __future__ import annotations

from dataclasses import replace

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase, Seen
from fogline.coordinator.core.events import turn_events
from fogline.coordinator.core.orders import restarted, stopped
from fogline.coordinator.core.reconcile import reconcile
from fogline.wire.terms import CopyState

OLD = Copy("p/a/0/a", "a1", "n", "a", 0)
NEW = replace(OLD, spec_digest="a2")
MOVED = replace(OLD, node="m")
EVICTED = Seen(CopyState.FAILED, "superseded: another client reads as x")
REPLACING = Deployment("p", 2, Phase.PREPARING, 0.0, (NEW,), 1, (OLD,))
RUNNING = Deployment("p", 1, Phase.RUNNING, 0.0, (OLD,))


def test_what_ran_stays_in_charge_when_its_successor_is_stopped_on_the_way() -> None:
    for phase in (Phase.PREPARING, Phase.DRAINING):
        deployment, verdict = stopped(replace(REPLACING, phase=phase), 1.0)
        assert (deployment.revision, deployment.target, deployment.leaving) == (1, (OLD,), (NEW,))
        assert verdict is not None
        assert (verdict.revision, verdict.succeeded) == (2, False)


def test_a_successor_that_has_begun_stays_in_charge() -> None:
    deployment, _ = stopped(replace(REPLACING, phase=Phase.STARTING), 1.0)
    assert (deployment.revision, deployment.target, deployment.leaving) == (2, (NEW,), (OLD,))


def test_a_stop_while_rolling_back_is_no_verdict_on_the_good_revision() -> None:
    why = Outcome(2, False, "it did not start")
    _, verdict = stopped(replace(RUNNING, phase=Phase.ROLLING_BACK, failure=why), 1.0)
    assert verdict == why


def test_a_stop_does_not_save_what_is_being_deleted() -> None:
    deleted, _ = stopped(RUNNING, 1.0, release=True)
    assert stopped(deleted, 2.0)[0].release


def test_a_superseded_copy_is_called_back_once_nothing_else_of_it_can_run() -> None:
    ending = replace(RUNNING, target=(MOVED,), leaving=(OLD,))
    held = reconcile(ending, {MOVED: EVICTED, OLD: Seen(node_connected=False)}, 1.0)
    assert held.wanted[MOVED].incarnation == 0
    step = reconcile(ending, {MOVED: EVICTED, OLD: Seen(CopyState.GONE)}, 1.0)
    assert (step.deployment.phase, step.wanted[MOVED].incarnation) == (Phase.RUNNING, 1)
    assert [each.segment for each in turn_events(ending, step.deployment, [])] == ["a"]


def test_a_superseded_copy_is_called_back_once_between_two_orders() -> None:
    called = reconcile(RUNNING, {OLD: EVICTED}, 1.0).deployment
    assert called.incarnations == {OLD.assignment: 1}
    again = replace(EVICTED, incarnation=1)
    assert reconcile(called, {OLD: again}, 2.0).deployment == called
    ordered = replace(restarted(called, [OLD.assignment], 3.0), phase=Phase.RUNNING)
    evicted = reconcile(ordered, {OLD: replace(EVICTED, incarnation=2)}, 4.0).deployment
    assert evicted.incarnations == {OLD.assignment: 3}


def test_what_failed_for_another_reason_is_not_called_back() -> None:
    failed = Seen(CopyState.FAILED, "no such model")
    assert reconcile(RUNNING, {OLD: failed}, 1.0).deployment == RUNNING
