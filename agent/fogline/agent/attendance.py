"""Looks at a copy's process over its control socket and translates what it says into the copy's state.

Every 50 ms while it is on its way, every 2 s once it is ready: an idle node must cost next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from fogline.agent.copies import Copy
from fogline.agent.core.observed import StageSeen
from fogline.agent.host.control import Control, Silent
from fogline.runtimes.spec import SegmentState
from fogline.wire.terms import CopyState, FoglineError

log = logging.getLogger(__name__)

ON_ITS_WAY_S = 0.05
SETTLED_S = 2.0

_STATES = {
    SegmentState.LOADING: CopyState.STARTING,
    SegmentState.LOADED: CopyState.LOADED,
    SegmentState.BINDING: CopyState.LOADED,
    SegmentState.READY: CopyState.READY,
    SegmentState.DRAINING: CopyState.DRAINING,
}
_SETTLED = ("done", "filtered", "dead_lettered", "dropped")


async def introduce(copy: Copy) -> Control:
    """Connect to the copy's process and make sure that it is the one we started.

    Raises Silent when nobody answers and FoglineError when somebody else does.
    """
    control = await Control.connect(copy.workspace.path)
    try:
        pid = await control.hello(copy.workspace.nonce(), copy.wish.spec_digest)
        if copy.handle is None or pid != copy.handle.pid:
            raise Silent(f"process {pid} answers, which is not the one that was started")
    except BaseException:
        await control.close()
        raise
    return control


async def follow(copy: Copy) -> None:
    """Look at the process until cancelled."""
    while True:
        await look(copy)
        on_its_way = copy.state in {CopyState.STARTING, CopyState.DRAINING} or (
            copy.state is CopyState.LOADED and copy.bound
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ON_ITS_WAY_S if on_its_way else SETTLED_S):
                await copy.look_now.wait()
        copy.look_now.clear()


async def look(copy: Copy) -> None:
    """One look. A process that does not answer keeps its state; the reason shows once it was ready."""
    try:
        if copy.control is None:
            copy.control = await introduce(copy)
        absorb(copy, await copy.control.call("status"))
    except (Silent, FoglineError) as error:
        control, copy.control = copy.control, None
        if control:
            await control.close()
        told_off = isinstance(error, FoglineError) or copy.state is CopyState.READY
        if told_off and copy.alive and copy.state and not copy.stopping:
            copy.show(copy.state, f"its control socket does not answer: {error}")


def absorb(copy: Copy, status: Mapping[str, Any]) -> None:
    """Take over what a status says. Raises Silent when it makes no sense."""
    try:
        told = SegmentState(status["state"])
        stages = tuple(_stage(each) for each in status.get("stages", ()))
        reason = str(status.get("reason") or "")
        lost = [str(each.get("error") or "not connected") for each in status.get("connections", ())
                if not each["connected"]]  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Silent(f"a status that makes no sense: {error!r}") from error
    copy.stages = stages
    copy.bound = copy.bound or told in {SegmentState.BINDING, SegmentState.READY}
    _count_settled(copy)
    if copy.stopping:
        return
    if told is SegmentState.READY:
        copy.show(CopyState.READY, lost[0] if lost else reason)
    else:  # the reason of the last death stays in sight until it is ready again
        copy.show(_STATES[told], reason or copy.reason)


def _stage(document: Mapping[str, Any]) -> StageSeen:
    counters = {str(key): int(value) for key, value in document.get("counters", {}).items()}
    p50_s, p99_s = (float(document.get(key) or 0.0) for key in ("p50_s", "p99_s"))
    return StageSeen(str(document["name"]), counters, p50_s, p99_s)


def _count_settled(copy: Copy) -> None:
    settled = sum(stage.counters.get(name, 0) for stage in copy.stages for name in _SETTLED)
    if settled > copy.settled:
        copy.fruitless_starts = 0
    copy.settled = settled
