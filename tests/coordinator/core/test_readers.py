"""Readers that a revision drops, and when their sessions end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fogline.coordinator.core.deployment import Copy, Deployment, Phase, Seen, Want
from fogline.coordinator.core.orders import dropping, stopped, submitted
from fogline.coordinator.core.readers import dropped
from fogline.coordinator.core.reconcile import reconcile
from fogline.runtimes.spec import EndpointSpec, SegmentSpec
from fogline.wire.terms import CopyState, Wanted

A1 = Copy("p/a/0/a", "a1", "n", "a", 0)
A2 = replace(A1, spec_digest="a2")
RUNNING = Deployment("p", 1, Phase.RUNNING, 0.0, (A1,))


def _spec(**topics: str) -> SegmentSpec:
    """A segment that reads these queues."""
    sources = tuple(EndpointSpec(queue, "a", "mqtt", _options(topic), f"c.{queue}") for queue, topic in topics.items())
    return SegmentSpec("p", "a", "0", "a", "c", (), sources, ())


def _options(topic: str) -> dict[str, Any]:
    return {"server": "localhost", "port": 1883, "topic": topic, "format": "json"}


def test_a_reader_is_dropped_with_its_queue_or_its_topic() -> None:
    assert dropped({"a1": _spec(q1="t1", q2="t2")}, {"a2": _spec(q1="t1")}) == {"a1": ("c.q2",)}
    assert dropped({"a1": _spec(q1="t1")}, {"a2": _spec(q1="other")}) == {"a1": ("c.q1",), "a2": ("c.q1",)}


def test_a_reader_that_moves_to_another_segment_is_kept() -> None:
    assert dropped({"a1": _spec(q1="t1"), "b1": _spec()}, {"a2": _spec(), "b2": _spec(q1="t1")}) == {}


def test_its_session_ends_with_the_replaced_copy_and_the_verdict_says_what_was_left() -> None:
    fresh = dropping(submitted(RUNNING, 2, [A2], {}, 1.0)[0], (), {"a1": ("c.q1",), "a2": ("c.q2",)})
    step = reconcile(fresh, {A1: Seen(CopyState.READY), A2: Seen(CopyState.PREPARED)}, 2.0)
    assert step.wanted[A1] == Want(Wanted.STOPPED, readers=("c.q1",))
    gone = {A1: Seen(CopyState.GONE, "2 messages given up")}
    step = reconcile(step.deployment, gone | {A2: Seen(CopyState.READY)}, 3.0)
    step = reconcile(step.deployment, gone | {A2: Seen(CopyState.READY)}, 5.0)
    assert step.outcomes[0].text == "revision 2 is running; segment a: 2 messages given up"
    step = reconcile(stopped(step.deployment, 6.0)[0], {A2: Seen(CopyState.READY)}, 6.0)
    assert step.wanted[A2] == Want(Wanted.STOPPED), "a stop keeps sessions"


def test_going_back_ends_the_sessions_that_only_the_failed_revision_had() -> None:
    fresh = dropping(submitted(RUNNING, 2, [A2], {}, 1.0)[0], (), {"a2": ("c.q2",)})
    step = reconcile(fresh, {A1: Seen(CopyState.READY), A2: Seen(CopyState.FAILED, "why")}, 2.0)
    assert step.wanted[A2] == Want(Wanted.STOPPED, readers=("c.q2",))


def test_what_a_stopped_revision_read_is_released_by_one_that_does_not() -> None:
    ended = replace(RUNNING, phase=Phase.STOPPED)
    fresh = dropping(submitted(ended, 2, [A2], {}, 1.0)[0], ended.target, {"a1": ("c.q1",), "a2": ("c.q2",)})
    step = reconcile(fresh, {A2: Seen(CopyState.PREPARED)}, 1.0)
    assert step.wanted == {A1: Want(Wanted.STOPPED, readers=("c.q1",)), A2: Want(Wanted.PREPARED)}
    assert step.deployment.phase is Phase.PREPARING, "it could end the session of its successor"
    failed = reconcile(step.deployment, {A1: Seen(CopyState.GONE), A2: Seen(CopyState.FAILED, "why")}, 2.0)
    assert failed.wanted[A2] == Want(Wanted.STOPPED), "there is nothing to go back to: what came is kept"
