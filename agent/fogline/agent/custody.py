"""A process from its start, or its discovery, to its end: looked at, held to its deadlines, its end judged.

When to start again is decided by `core.restarts`, whether it hangs by `core.health`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from fogline.agent.attendance import ON_ITS_WAY_S, follow, introduce, last_counted, look
from fogline.agent.copies import Copy
from fogline.agent.core.health import Vigil
from fogline.agent.core.restarts import SURVIVED_S, Ending, after_exit
from fogline.agent.drivers.base import Driver, Handle
from fogline.agent.host.control import Silent
from fogline.agent.host.stagelog import last_lines
from fogline.agent.preparation import read_spec
from fogline.agent.store.sqlite import Phase, Store
from fogline.runtimes.spec import HealthSpec
from fogline.wire.terms import CopyState, FoglineError, Wanted

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class _Met(Enum):
    """How a process that an earlier agent started takes our hello."""

    ANSWERS = "answers"
    DENIES = "is not ours and left alone"
    IS_MUTE = "is ours and does not answer yet"
    ENDED = "ended while it was looked at"


class Custody:
    """Looks after the processes of all copies; `hello_s` is how long a found one is waited for."""

    def __init__(self, driver: Driver, store: Store, spawn: Spawn, hello_s: float) -> None:
        self._driver = driver
        self._store = store
        self._spawn = spawn
        self._hello_s = hello_s

    def fail(self, copy: Copy, reason: str) -> None:
        """Starting (again) would not mend it."""
        log.warning("%s: failed: %s", copy.name, reason)
        copy.last_lines = last_lines(copy.workspace.log)
        try:
            self._store.save_progress(copy.wish.key, Phase.FAILED, reason, copy.restarts, copy.incarnation)
        except FoglineError as error:  # the next agent finds out for itself
            log.error("%s: %s", copy.name, error.sentence)
        copy.show(CopyState.FAILED, reason)

    def _finish(self, copy: Copy, reason: str) -> None:
        """Nothing is left to do."""
        log.info("%s: finished: %s", copy.name, reason)
        copy.stages = last_counted(copy.workspace.finished())
        try:
            self._store.save_progress(copy.wish.key, Phase.FINISHED, reason, copy.restarts, copy.incarnation)
        except FoglineError as error:  # the next agent finds it in the workspace
            log.error("%s: %s", copy.name, error.sentence)
        copy.show(CopyState.FINISHED, reason)

    def attend(self, copy: Copy, handle: Handle, *, found: bool = False) -> None:
        """Look after a process until it has ended."""
        health, who, serves = _terms(copy)
        copy.told_revision = 0 if serves else None
        copy.handle = handle
        copy.started_at_s = _now_s() - handle.age_s
        copy.condemned = ""
        copy.vigil = Vigil(health, who, copy.started_at_s, found=found)
        copy.attendant = self._spawn(self._watch(copy, handle, health.live_s))

    def judge(self, copy: Copy, ending: Ending) -> None:
        """Start again, and when, or never."""
        if copy.started_at_s and _now_s() - copy.started_at_s >= SURVIVED_S:
            copy.fruitless_starts = 0
        verdict = after_exit(_restart_policy(copy), ending, copy.fruitless_starts)
        if verdict.finished:
            self._finish(copy, verdict.reason)
            return
        if verdict.delay_s is None:
            self.fail(copy, verdict.reason)
            return
        log.warning("%s: %s; starts again in %.1f s", copy.name, verdict.reason, verdict.delay_s)
        copy.fruitless_starts += 1
        copy.restart_at_s = _now_s() + verdict.delay_s
        copy.last_lines = last_lines(copy.workspace.log)
        copy.show(CopyState.RESTARTING, verdict.reason)

    async def adopt(self, copy: Copy) -> None:
        """Find the process that an earlier agent started; judge how it ended if it did."""
        handle = await self._driver.adopt(copy.workspace.path)
        if handle is None:
            self._judge_absent(copy)
            return
        copy.handle = handle
        copy.show(CopyState.STARTING)
        met = await self._meet(copy, handle)
        if met in {_Met.DENIES, _Met.ENDED}:
            log.warning("%s: process %d %s", copy.name, handle.pid, met.value)
            copy.handle = None
            handle.close()
            self._judge_absent(copy)
            return
        log.info("%s: adopted, process %d %s", copy.name, handle.pid, met.value)
        self.attend(copy, handle, found=True)
        if met is _Met.ANSWERS:
            await _within(look(copy), self._hello_s)

    async def _watch(self, copy: Copy, handle: Handle, live_s: float) -> None:
        following = self._spawn(follow(copy, live_s))
        try:
            how = await handle.wait()
        finally:
            following.cancel()
            await asyncio.wait({following})
            control, copy.control, copy.handle = copy.control, None, None
            handle.close()
            if control:
                await control.close()
        copy.bound = False
        condemned, copy.condemned = copy.condemned, ""
        if copy.stopping:
            copy.stopping = False
            log.info("%s: process %d has ended", copy.name, handle.pid)
            copy.show(CopyState.DRAINING if copy.wish.wanted is Wanted.STOPPED else CopyState.PREPARED)
        elif condemned:
            self.judge(copy, Ending(how.code, how.signal, condemned))
        else:
            ending = copy.workspace.ending(
                how.code,
                how.signal,
                out_of_memory=how.out_of_memory,
                memory_limit_bytes=how.memory_limit_bytes,
            )
            self.judge(copy, ending)

    def _judge_absent(self, copy: Copy) -> None:
        """No process after the agent was away: it ended meanwhile, or was never started."""
        if not copy.workspace.spec.exists():
            return  # somebody cleared the folder: it is prepared anew
        if not copy.workspace.was_started():
            copy.show(CopyState.PREPARED)
            return
        self.judge(copy, copy.workspace.noted_ending())
        copy.restart_at_s = _now_s()  # it has waited long enough

    async def _meet(self, copy: Copy, handle: Handle) -> _Met:
        ending = asyncio.create_task(handle.wait())
        try:
            deadline_s = _now_s() + self._hello_s
            while _now_s() < deadline_s:
                try:
                    async with asyncio.timeout_at(deadline_s):
                        copy.control = await introduce(copy)
                except (Silent, TimeoutError):
                    await asyncio.wait({ending}, timeout=ON_ITS_WAY_S)
                except FoglineError:
                    return _Met.DENIES
                else:
                    return _Met.ANSWERS
                if ending.done():
                    return _Met.ENDED
            return _Met.IS_MUTE
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


async def _within(doing: Coroutine[Any, Any, Any], limit_s: float) -> None:
    task = asyncio.create_task(doing)
    await asyncio.wait({task}, timeout=limit_s)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _terms(copy: Copy) -> tuple[HealthSpec, str, bool]:
    """The deadlines of a copy, who is meant when one is over, and whether it answers requests."""
    try:
        spec = read_spec(copy.wish)
    except FoglineError as error:  # of a newer release, say: it runs all the same
        log.warning("%s: usual deadlines: %s", copy.name, error.sentence)
        return HealthSpec(), f"copy {copy.name}", False
    who = f"stage {spec.stages[0].name}" if len(spec.stages) == 1 else f"segment {spec.segment}"
    return spec.health, who, spec.serving is not None


def _restart_policy(copy: Copy) -> str:
    try:
        return read_spec(copy.wish).restart
    except FoglineError:  # cannot be: it ran
        return "always"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
