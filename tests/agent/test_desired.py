"""Reconcile as a table, and as properties over every order of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fogline.agent.core.desired import (
    Action,
    Assignment,
    Change,
    CopyKey,
    Observed,
    merge,
    next_restart_at_s,
    reconcile,
)
from fogline.wire.terms import CopyState, Wanted

S = CopyState
ID = "plant/clean/0/a"


def wish(
    wanted: Wanted, digest: str = "d1", *, bind: bool = True, listed: bool = True, revision: int = 1
) -> Assignment:
    return Assignment(ID, digest, b"{}", wanted, bind, revision, drain_s=30.0, listed=listed)


def alive(state: CopyState, *, bound: bool = True) -> Observed:
    return Observed(state, alive=True, bound=bound)


PREPARED, RUNNING, STOPPED = Wanted.PREPARED, Wanted.RUNNING, Wanted.STOPPED

TABLE = [
    ("new, wanted prepared", PREPARED, None, Action.PREPARE),
    ("new, wanted running", RUNNING, None, Action.PREPARE),
    ("never seen, wanted stopped", STOPPED, None, Action.FORGET),
    ("being prepared", RUNNING, Observed(S.PREPARING), None),
    ("being prepared, not wanted any more", STOPPED, Observed(S.PREPARING), Action.FORGET),
    ("prepared and only that is wanted", PREPARED, Observed(S.PREPARED), None),
    ("prepared, wanted running", RUNNING, Observed(S.PREPARED), Action.START),
    ("prepared, wanted stopped", STOPPED, Observed(S.PREPARED), Action.FORGET),
    ("starting", RUNNING, alive(S.STARTING), None),
    ("loaded, told to bind at the start", RUNNING, alive(S.LOADED), None),
    ("loaded, to be bound", RUNNING, alive(S.LOADED, bound=False), Action.BIND),
    ("ready", RUNNING, alive(S.READY), None),
    ("ready, only prepared is wanted: no reason to stop", PREPARED, alive(S.READY), None),
    ("ready, wanted stopped", STOPPED, alive(S.READY), Action.STOP),
    ("starting, wanted stopped", STOPPED, alive(S.STARTING), Action.STOP),
    ("draining: asked again, whoever is at it is not disturbed", STOPPED, alive(S.DRAINING), Action.STOP),
    ("draining, wanted again: first it ends", RUNNING, alive(S.DRAINING), None),
    ("drained and gone", STOPPED, Observed(S.DRAINING), Action.FORGET),
    ("drained and gone, wanted again", RUNNING, Observed(S.DRAINING), Action.START),
    ("died, not due yet", RUNNING, Observed(S.RESTARTING, restart_at_s=100.1), None),
    ("died, due", RUNNING, Observed(S.RESTARTING, restart_at_s=100.0), Action.RESTART),
    ("died, only prepared is wanted", PREPARED, Observed(S.RESTARTING), None),
    ("died, wanted stopped", STOPPED, Observed(S.RESTARTING), Action.FORGET),
    ("failed", RUNNING, Observed(S.FAILED), None),
    ("failed, wanted stopped", STOPPED, Observed(S.FAILED), Action.FORGET),
    ("gone and still listed", STOPPED, Observed(S.GONE), None),
    ("gone and wanted again", RUNNING, Observed(S.GONE), Action.PREPARE),
]


@pytest.mark.parametrize(("wanted", "seen", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_due(wanted: Wanted, seen: Observed | None, expected: Action | None) -> None:
    assignment = wish(wanted)
    observed = {assignment.key: seen} if seen else {}
    changes = reconcile([assignment], observed, now_s=100.0)
    assert [change.action for change in changes] == ([expected] if expected else [])


def test_start_carries_the_bind_and_stop_the_drain() -> None:
    key = wish(RUNNING).key
    assert reconcile([wish(RUNNING)], {key: Observed(S.PREPARED)}, 0.0) == [Change(key, Action.START, bind=True)]
    unbound = wish(RUNNING, bind=False)
    assert reconcile([unbound], {key: Observed(S.PREPARED)}, 0.0) == [Change(key, Action.START)]
    assert reconcile([unbound], {key: alive(S.LOADED, bound=False)}, 0.0) == []
    assert reconcile([wish(STOPPED)], {key: alive(S.READY)}, 0.0) == [Change(key, Action.STOP, drain_s=30.0)]


def test_a_copy_nobody_lists_any_more_leaves_the_records_only_once_it_is_gone() -> None:
    unlisted = wish(STOPPED, listed=False)
    assert reconcile([unlisted], {unlisted.key: alive(S.DRAINING)}, 0.0)[0].action is Action.STOP
    assert reconcile([unlisted], {unlisted.key: Observed(S.GONE)}, 0.0) == [Change(unlisted.key, Action.DROP)]


def test_the_new_copy_waits_until_the_old_one_has_ended() -> None:
    old, new = wish(STOPPED, "d1"), wish(RUNNING, "d2", revision=2)
    observed = {old.key: alive(S.DRAINING), new.key: Observed(S.PREPARED)}
    assert {change.action for change in reconcile([new, old], observed, 0.0)} == {Action.STOP}
    observed[old.key] = Observed(S.DRAINING)
    assert {change.action for change in reconcile([new, old], observed, 0.0)} == {Action.FORGET, Action.START}


def test_a_crash_of_the_old_copy_is_no_chance_for_the_new_one() -> None:
    old, new = wish(RUNNING, "d1", listed=False), wish(RUNNING, "d2", revision=2)
    observed = {old.key: Observed(S.RESTARTING, restart_at_s=5.0), new.key: Observed(S.PREPARED)}
    assert reconcile([new, old], observed, 4.0) == []
    assert reconcile([new, old], observed, 5.0) == [Change(old.key, Action.RESTART, bind=True)]


def test_of_two_that_may_start_the_listed_and_newer_one_does() -> None:
    old, new = wish(RUNNING, "d1", listed=False, revision=3), wish(RUNNING, "d2", revision=2)
    observed = {old.key: Observed(S.PREPARED), new.key: Observed(S.PREPARED)}
    assert reconcile([old, new], observed, 0.0) == [Change(new.key, Action.START, bind=True)]


def test_merge_keeps_what_a_snapshot_forgot() -> None:
    known = [wish(RUNNING, "d1"), wish(RUNNING, "d2")]
    merged = {each.key: each for each in merge(known, [replace(known[1], wanted=STOPPED, spec=b"")])}
    assert merged[known[0].key] == replace(known[0], listed=False)
    assert merged[known[1].key] == replace(known[1], wanted=STOPPED), "a stop needs no spec to keep the one known"


def test_next_restart() -> None:
    one, two, three = wish(RUNNING, "d1"), wish(RUNNING, "d2"), wish(STOPPED, "d3")
    observed = {
        one.key: Observed(S.RESTARTING, restart_at_s=9.0),
        two.key: Observed(S.RESTARTING, restart_at_s=7.0),
        three.key: Observed(S.RESTARTING, restart_at_s=1.0),
    }
    assert next_restart_at_s([one, two, three], observed) == 7.0
    assert next_restart_at_s([one], {}) is None


class Model:
    """A node whose processes are letters: events happen, changes are carried out, in any order."""

    def __init__(self) -> None:
        self.wishes: list[Assignment] = []
        self.observed: dict[CopyKey, Observed] = {}
        self.stopped_unasked: list[CopyKey] = []

    def snapshot(self, wanted: dict[CopyKey, Wanted]) -> None:
        listed = [Assignment(*key, spec=b"{}", wanted=each, bind=True) for key, each in wanted.items()]
        self.wishes = merge(self.wishes, listed)

    def turn(self, now_s: float) -> list[Change]:
        changes = reconcile(self.wishes, self.observed, now_s)
        by_key = {each.key: each for each in self.wishes}
        for change in changes:
            asked = by_key[change.key].wanted is STOPPED
            if change.action in {Action.STOP, Action.FORGET, Action.DROP} and not asked:
                self.stopped_unasked.append(change.key)
            self.apply(change)
        return changes

    def apply(self, change: Change) -> None:
        if change.action is Action.DROP:
            del self.observed[change.key]
            self.wishes = [each for each in self.wishes if each.key != change.key]
            return
        self.observed[change.key] = {
            Action.PREPARE: Observed(S.PREPARING),
            Action.START: alive(S.STARTING),
            Action.RESTART: alive(S.STARTING),
            Action.BIND: alive(S.LOADED),
            Action.STOP: alive(S.DRAINING),
            Action.FORGET: Observed(S.GONE),
        }[change.action]

    def event(self, key: CopyKey, final: bool) -> None:
        seen = self.observed.get(key)
        if seen is None:
            return
        follows = {
            S.PREPARING: Observed(S.FAILED if final else S.PREPARED),
            S.STARTING: Observed(S.FAILED) if final else alive(S.LOADED),
            S.LOADED: alive(S.READY),
            S.READY: Observed(S.FAILED) if final else Observed(S.RESTARTING),
            S.DRAINING: Observed(S.DRAINING),
        }
        self.observed[key] = follows.get(seen.state, seen)


KEYS = [CopyKey(f"plant/{segment}/0/a", digest) for segment in "xy" for digest in ("d1", "d2", "d3")]
SNAPSHOTS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(list(Wanted)), max_size=6)
EVENTS = st.one_of(
    SNAPSHOTS, st.tuples(st.sampled_from(KEYS), st.booleans()), st.none()
)  # a snapshot, something that happens to a copy, or time that passes


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_never_two_processes_of_one_assignment_and_absence_stops_nothing(
    events: list[dict[CopyKey, Wanted] | tuple[CopyKey, bool] | None],
) -> None:
    model, now_s = Model(), 0.0
    for event in events:
        if isinstance(event, dict):
            model.snapshot(event)
        elif event is not None:
            model.event(*event)
        now_s += 1.0
        model.turn(now_s)
        running = [key.assignment for key, seen in model.observed.items() if seen.alive]
        assert len(running) == len(set(running)), "two processes of one assignment"
        assert not model.stopped_unasked, "a copy ended that no snapshot listed as STOPPED"


@settings(max_examples=200, deadline=None)
@given(st.lists(SNAPSHOTS, max_size=5), SNAPSHOTS)
def test_it_settles(history: list[dict[CopyKey, Wanted]], last: dict[CopyKey, Wanted]) -> None:
    model = Model()
    for snapshot in (*history, last):
        model.snapshot(snapshot)
        model.turn(0.0)
    for turn in range(30):
        for key in KEYS:
            model.event(key, final=False) if model.observed.get(key) != alive(S.READY) else None
        changes = model.turn(float(turn))
    assert changes == []
    for key, wanted in last.items():
        if wanted is STOPPED:
            assert model.observed[key].state is S.GONE
