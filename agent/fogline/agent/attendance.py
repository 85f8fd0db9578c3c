"""Looks at a copy's process over its control socket and translates what it says into the copy's state.

Often while it is on its way, the more seldom the longer that takes, and every 2 s once it is ready: an idle
node must cost next to nothing. A look may take as long as the process takes to answer; meanwhile the time is
counted, and a process that hangs is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fogline.agent.copies import Copy
from fogline.agent.core.observed import ReadingSeen, StageSeen
from fogline.agent.host.control import ANSWER_S, Control, Silent
from fogline.runtimes.spec import SegmentState
from fogline.wire.terms import CopyState, FoglineError

log = logging.getLogger(__name__)

ON_ITS_WAY_S = 0.05
PATIENT_S = 1.0
"""While it is on its way for long."""
SETTLED_S = 2.0

_STATES = {
    SegmentState.LOADING: CopyState.STARTING,
    SegmentState.LOADED: CopyState.LOADED,
    SegmentState.BINDING: CopyState.LOADED,
    SegmentState.READY: CopyState.READY,
    SegmentState.DRAINING: CopyState.DRAINING,
}
_SETTLED = ("done", "filtered", "dead_lettered", "dropped")


async def introduce(copy: Copy, timeout_s: float | None = ANSWER_S) -> Control:
    """Connect to the copy's process and make sure that it is the one we started.

    Raises Silent when nobody answers and FoglineError when somebody else does.
    """
    control = await Control.connect(copy.workspace.path)
    try:
        pid = await control.hello(copy.workspace.nonce(), copy.wish.spec_digest, timeout_s)
        if copy.handle is None or pid != copy.handle.known_as:
            raise Silent(f"process {pid} answers, which is not the one that was started")
    except BaseException:
        await control.close()
        raise
    return control


async def follow(copy: Copy, live_s: float) -> None:
    """Look at the process until cancelled; kill it when it hangs."""
    looking: asyncio.Task[bool] | None = None
    began_s = last_s = _now_s()
    pause_s = 0.0
    try:
        while True:
            looking = looking or asyncio.create_task(look(copy))
            await asyncio.wait({looking}, timeout=SETTLED_S)
            answered = looking.done() and looking.result()
            passed_s, nominal_s = _now_s() - last_s, SETTLED_S + pause_s
            last_s += passed_s
            if not answered:
                _count_silence(copy, min(passed_s, nominal_s))
            if passed_s < 2 * nominal_s:  # else we were stopped ourselves: look again before judging
                _judge(copy)
            if copy.handle and not copy.handle.attended:
                copy.on_change()
            looking = None if looking.done() else looking
            pause_s = _pause_s(copy, last_s - began_s, live_s) if looking is None else 0.0
            await _pause(copy, pause_s)
    finally:
        if looking:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def look(copy: Copy) -> bool:
    """One look; whether the process answered. Without an answer it keeps its state; the reason shows once
    it was ready."""
    async with copy.looking:
        try:
            if copy.control is None:
                copy.control = await introduce(copy, timeout_s=None)
            absorb(copy, await copy.control.call("status", timeout_s=None))
            await _tell_revision(copy, copy.control)
        except (Silent, FoglineError) as error:
            control, copy.control = copy.control, None
            if control:
                await control.close()
            denied = isinstance(error, FoglineError)
            if (denied or copy.state is CopyState.READY) and copy.alive and copy.state and not copy.stopping:
                copy.show(copy.state, f"its control socket does not answer: {error}")
            return denied
    return True


async def _tell_revision(copy: Copy, control: Control) -> None:
    """No part of the spec, so a process that is kept is told of every revision that keeps it."""
    revision = copy.wish.revision
    if copy.told_revision in {None, revision} or copy.state not in {CopyState.LOADED, CopyState.READY}:
        return
    try:
        await control.call("routes", revision=str(revision))
    except FoglineError as error:  # of a former release: it goes on without
        log.warning("%s: does not take its revision: %s", copy.name, error)
    copy.told_revision = revision


def _count_silence(copy: Copy, waited_s: float) -> None:
    if copy.vigil is None:
        return
    copy.vigil.unanswered(waited_s)
    if copy.vigil.mute_s > ANSWER_S and copy.state is CopyState.READY and not copy.stopping:
        copy.show(copy.state, "its control socket does not answer")


def _judge(copy: Copy) -> None:
    if copy.vigil is None or copy.handle is None or copy.stopping or copy.condemned:
        return
    copy.condemned = copy.vigil.verdict(_now_s())
    if copy.condemned:
        log.warning("%s: killing process %d: %s", copy.name, copy.handle.pid, copy.condemned)
        copy.handle.kill()


def _pause_s(copy: Copy, for_s: float, live_s: float) -> float:
    """Until the next look."""
    on_its_way = copy.state in {CopyState.STARTING, CopyState.DRAINING} or (
        copy.state is CopyState.LOADED and copy.bound
    )
    if on_its_way:
        return min(PATIENT_S, max(ON_ITS_WAY_S, for_s / 20))
    return min(SETTLED_S, max(ON_ITS_WAY_S, live_s / 4))


async def _pause(copy: Copy, pause_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await copy.look_now.wait()
    copy.look_now.clear()


def absorb(copy: Copy, status: Mapping[str, Any]) -> None:
    """Take over what a status says. Raises Silent when it makes no sense."""
    try:
        told = SegmentState(status["state"])
        connections = list(status.get("connections", ()))
        stages = tuple(_stage(each, connections) for each in status.get("stages", ()))
        reason = str(status.get("reason") or "")
        stalled_s, stalled = float(status.get("stalled_s") or 0.0), str(status.get("stalled_stage") or "")
        lost = [str(each.get("error") or "not connected") for each in connections if not each["connected"]]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Silent(f"a status that makes no sense: {error!r}") from error
    copy.stages = stages
    if copy.vigil:  # connections are listed once all stages are loaded: it may wait for a broker from then on
        loaded = told is not SegmentState.LOADING or bool(connections)
        copy.vigil.answered(loaded=loaded, stalled_s=stalled_s, stage=stalled)
    copy.bound = copy.bound or told in {SegmentState.BINDING, SegmentState.READY}
    _count_settled(copy)
    if copy.stopping:
        return
    if told is SegmentState.READY:
        copy.show(CopyState.READY, lost[0] if lost else reason)
    else:  # the reason of the last death stays in sight until it is ready again
        copy.show(_STATES[told], reason or copy.reason)


def last_counted(note: Mapping[str, Any]) -> tuple[StageSeen, ...]:
    """The counters in what a process left at the end of its input."""
    try:
        return tuple(_stage(each, ()) for each in note.get("stages", ()))
    except (KeyError, ValueError, TypeError, AttributeError):
        return ()


def _stage(document: Mapping[str, Any], connections: Sequence[Mapping[str, Any]]) -> StageSeen:
    counters = {str(key): int(value) for key, value in document.get("counters", {}).items()}
    p50_s, p99_s, rate = (float(document.get(key) or 0.0) for key in ("p50_s", "p99_s", "rate"))
    requests, errors = (int(document.get(key) or 0) for key in ("requests", "errors"))
    name = str(document["name"])
    readings = tuple(_reading(each) for each in connections if each.get("reader") == name)
    return StageSeen(name, counters, p50_s, p99_s, readings, rate, requests, errors)


def _reading(document: Mapping[str, Any]) -> ReadingSeen:
    lag, oldest_s = document.get("lag"), document.get("oldest_s")
    return ReadingSeen(
        str(document["queue"]), None if lag is None else int(lag), None if oldest_s is None else float(oldest_s)
    )


def _count_settled(copy: Copy) -> None:
    settled = sum(stage.counters.get(name, 0) for stage in copy.stages for name in _SETTLED)
    if settled > copy.settled:
        copy.fruitless_starts = 0
    copy.settled = settled


def _now_s() -> float:
    return asyncio.get_running_loop().time()
