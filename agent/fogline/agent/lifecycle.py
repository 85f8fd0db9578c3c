"""Carries one change out on one copy, and attends to its process from start to end.

What is to be done is decided by `core.desired`, when to start again by `core.restarts`. Every wait in
here but the one for artifacts has a deadline, and that one gives way to a stop.

The ladder of a stop: `drain` over the control socket, SIGTERM, SIGKILL to the process group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fogline.agent.attendance import ON_ITS_WAY_S, follow, introduce, look
from fogline.agent.copies import Copy
from fogline.agent.core.desired import Action, Change
from fogline.agent.core.restarts import SURVIVED_S, Ending, after_exit
from fogline.agent.drivers.base import Driver, Handle, Launch
from fogline.agent.host.control import Silent
from fogline.agent.preparation import Preparation, read_spec
from fogline.agent.store.sqlite import Phase, Store
from fogline.wire.terms import CopyState, FoglineError, Wanted

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(frozen=True)
class Ladder:
    """How long each rung may take."""

    drain_grace_s: float = 2.0
    terminate_s: float = 5.0
    kill_s: float = 5.0
    hello_s: float = 5.0
    bind_again_s: float = 0.5


class _Met(Enum):
    """How a process that an earlier agent started takes our hello."""

    ANSWERS = "answers"
    DENIES = "is not ours and left alone"
    IS_MUTE = "is ours and answers nobody: ending it"
    ENDED = "ended while it was looked at"


class Lifecycle:
    """What can be done to a copy."""

    def __init__(self, driver: Driver, preparation: Preparation, store: Store, spawn: Spawn, ladder: Ladder) -> None:
        self._driver = driver
        self._preparation = preparation
        self._store = store
        self._spawn = spawn
        self._ladder = ladder

    def announce(self, copy: Copy, change: Change) -> None:
        """Enter the state that `change` begins with, before anything else is decided."""
        if change.action is Action.PREPARE:
            copy.begin_anew()
            copy.show(CopyState.PREPARING)
        elif change.action in {Action.START, Action.RESTART}:
            copy.starting = True
            copy.restarts += change.action is Action.RESTART
            copy.show(CopyState.STARTING)
        elif change.action is Action.STOP:
            copy.stopping = True
            copy.show(CopyState.DRAINING)

    async def carry_out(self, copy: Copy, change: Change) -> None:
        """Do it. Failures end as a state of the copy, with the reason."""
        log.info("%s: %s", copy.name, change.action.value)
        if change.action is Action.PREPARE:
            await self._prepare(copy)
        elif change.action in {Action.START, Action.RESTART}:
            await self._start(copy, bind=change.bind)
        elif change.action is Action.BIND:
            await self._bind(copy)
        elif change.action is Action.STOP:
            await self.stop(copy, change.drain_s)
        elif change.action is Action.FORGET:
            await self._forget(copy)

    def fail(self, copy: Copy, reason: str) -> None:
        """Starting (again) would not mend it."""
        log.warning("%s: failed: %s", copy.name, reason)
        self._store.save_phase(copy.wish.key, Phase.FAILED, reason, copy.restarts)
        copy.show(CopyState.FAILED, reason)

    async def stop(self, copy: Copy, drain_s: float) -> None:
        """End the process: drain, TERM, KILL. Returns when it has ended or resisted all three."""
        handle, attendant = copy.handle, copy.attendant
        if handle is None or attendant is None:
            return
        copy.stopping = True
        if await self._drained(copy, attendant, drain_s):
            return
        log.warning("%s: did not drain, SIGTERM", copy.name)
        handle.terminate()
        if await _done_within(attendant, self._ladder.terminate_s):
            return
        log.warning("%s: ignores SIGTERM, SIGKILL", copy.name)
        handle.kill()
        if not await _done_within(attendant, self._ladder.kill_s):
            log.error("%s: process %d is still there after SIGKILL, trying again", copy.name, handle.pid)

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
        self._attend(copy, handle)
        if met is _Met.ANSWERS:
            log.info("%s: adopted, process %d", copy.name, handle.pid)
            await look(copy)
        else:  # boot id and start time say that it is ours: it must end before another may run
            log.warning("%s: process %d %s", copy.name, handle.pid, met.value)
            self.announce(copy, Change(copy.wish.key, Action.STOP))
            await self.stop(copy, 0.0)

    async def _prepare(self, copy: Copy) -> None:
        try:
            await self._preparation.prepare(copy.wish, copy.workspace, copy.show_progress)
        except FoglineError as error:
            self.fail(copy, error.sentence)
        except OSError as error:
            self.fail(copy, f"it cannot be prepared on this node: {error}")
        else:
            self._store.save_phase(copy.wish.key, Phase.PREPARED)
            copy.show(CopyState.PREPARED)

    async def _start(self, copy: Copy, *, bind: bool) -> None:
        try:
            spec = read_spec(copy.wish)
        except FoglineError as error:
            copy.starting = False
            self.fail(copy, error.sentence)
            return
        self._store.save_phase(copy.wish.key, Phase.PREPARED, restarts=copy.restarts)
        try:
            copy.workspace.write_intent(copy.wish)
            copy.workspace.ready_for_start()
            launch = Launch(
                copy.workspace.path, self._preparation.artifacts, bind, dict(spec.environment)
            )  # fmt: skip
            copy.started_at_s = _now_s()
            handle = await self._driver.start(launch)
        except (FoglineError, OSError) as error:
            copy.starting = False
            self._judge(copy, Ending(reason=str(error)))
        else:
            copy.starting = False
            copy.bound = bind
            copy.handle = handle
            copy.on_change()
            self._attend(copy, handle)

    async def _bind(self, copy: Copy) -> None:
        copy.workspace.write_intent(copy.wish)
        try:
            if copy.control is None:
                raise Silent("the process is not connected")
            await copy.control.call("bind")
        except (Silent, FoglineError) as error:
            log.warning("%s: not bound: %s", copy.name, error)
            await asyncio.sleep(self._ladder.bind_again_s)
        else:
            copy.bound = True
            copy.look_now.set()

    async def _forget(self, copy: Copy) -> None:
        if copy.wish.release:
            await self._release(copy)
        try:
            await asyncio.to_thread(copy.workspace.remove)
        except OSError as error:
            log.warning("%s: its workspace could not be removed: %s", copy.name, error)
        self._store.save_phase(copy.wish.key, Phase.GONE)
        copy.stages = ()
        copy.show(CopyState.GONE, "")

    async def _release(self, copy: Copy) -> None:
        try:
            await self._preparation.release(copy.wish, copy.workspace)
        except (FoglineError, OSError) as error:
            log.warning("%s: its broker sessions stay: %s", copy.name, error)

    def _attend(self, copy: Copy, handle: Handle) -> None:
        copy.attendant = self._spawn(self._watch(copy, handle))

    async def _watch(self, copy: Copy, handle: Handle) -> None:
        following = self._spawn(follow(copy))
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
        if copy.stopping:
            copy.stopping = False
            log.info("%s: process %d has ended", copy.name, handle.pid)
            copy.show(CopyState.DRAINING if copy.wish.wanted is Wanted.STOPPED else CopyState.PREPARED)
        else:
            self._judge(copy, copy.workspace.ending(how.code, how.signal))

    def _judge(self, copy: Copy, ending: Ending) -> None:
        """Start again, and when, or never."""
        if copy.started_at_s and _now_s() - copy.started_at_s >= SURVIVED_S:
            copy.fruitless_starts = 0
        verdict = after_exit(_restart_policy(copy), ending, copy.fruitless_starts)
        if verdict.delay_s is None:
            self.fail(copy, verdict.reason)
            return
        log.warning("%s: %s; starts again in %.1f s", copy.name, verdict.reason, verdict.delay_s)
        copy.fruitless_starts += 1
        copy.restart_at_s = _now_s() + verdict.delay_s
        copy.show(CopyState.RESTARTING, verdict.reason)

    def _judge_absent(self, copy: Copy) -> None:
        """No process after the agent was away: it ended meanwhile, or was never started."""
        if not copy.workspace.spec.exists():
            return  # somebody cleared the folder: it is prepared anew
        if not copy.workspace.was_started():
            copy.show(CopyState.PREPARED)
            return
        self._judge(copy, copy.workspace.noted_ending())
        copy.restart_at_s = _now_s()  # it has waited long enough

    async def _meet(self, copy: Copy, handle: Handle) -> _Met:
        ending = asyncio.create_task(handle.wait())
        try:
            deadline_s = _now_s() + self._ladder.hello_s
            while _now_s() < deadline_s:
                try:
                    copy.control = await introduce(copy)
                except Silent:
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

    async def _drained(self, copy: Copy, attendant: asyncio.Task[None], drain_s: float) -> bool:
        if copy.control is None:
            return False
        limit_s = drain_s + self._ladder.drain_grace_s
        deadline_s = _now_s() + limit_s
        asking = asyncio.create_task(copy.control.call("drain", timeout_s=limit_s, deadline_s=drain_s))
        try:
            await asyncio.wait({asking, attendant}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and asking.exception():
                return attendant.done()
            return await _done_within(attendant, deadline_s - _now_s())
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _done_within(task: asyncio.Task[None], limit_s: float) -> bool:
    await asyncio.wait({task}, timeout=max(0.0, limit_s))
    return task.done()


def _restart_policy(copy: Copy) -> str:
    try:
        return read_spec(copy.wish).restart
    except FoglineError:  # cannot be: it ran
        return "always"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
