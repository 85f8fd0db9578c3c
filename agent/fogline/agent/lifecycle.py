"""Carries one change out on one copy; what it started is in `custody` from then on.

What is to be done is decided by `core.desired`. Every wait in here but the one for artifacts has a
deadline, and that one gives way to a stop.

The ladder of a stop: `drain` over the control socket, SIGTERM, SIGKILL to the process group.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from fogline.agent.copies import Copy
from fogline.agent.core.desired import Action, Change
from fogline.agent.core.restarts import Ending
from fogline.agent.custody import Custody
from fogline.agent.drivers.base import Driver, Launch
from fogline.agent.host.control import Silent
from fogline.agent.letters import room_for_letters
from fogline.agent.preparation import Preparation
from fogline.agent.store.sqlite import Phase, Store
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import CopyState, FoglineError, Wanted

log = logging.getLogger(__name__)

LEAVE_S = 300.0
"""How long a process may read what a broker keeps for readers that nobody succeeds: it would be gone with them."""


@dataclass(frozen=True)
class Ladder:
    """How long each rung may take."""

    drain_grace_s: float = 2.0
    terminate_s: float = 5.0
    kill_s: float = 5.0
    hello_s: float = 2.0
    bind_again_s: float = 0.5


class _Never(Exception):
    """Why a copy cannot be started, however often it is tried."""


class Lifecycle:
    """What can be done to a copy."""

    def __init__(
        self, driver: Driver, preparation: Preparation, store: Store, custody: Custody, ladder: Ladder
    ) -> None:
        self._driver = driver
        self._preparation = preparation
        self._store = store
        self._custody = custody
        self._ladder = ladder

    def announce(self, copy: Copy, change: Change) -> None:
        """Enter the state that `change` begins with, before anything else is decided."""
        if change.action is Action.PREPARE:
            copy.begin_anew()
            copy.incarnation = copy.wish.incarnation
            copy.show(CopyState.PREPARING)
        elif change.action in {Action.START, Action.RESTART}:
            copy.starting = True
            copy.restarts += change.action is Action.RESTART
            if copy.wish.incarnation > copy.incarnation:
                copy.incarnation, copy.fruitless_starts = copy.wish.incarnation, 0
            copy.show(CopyState.STARTING)
        elif change.action is Action.STOP:
            copy.stopping = True
            if copy.wish.wanted is Wanted.RUNNING:
                self._announce_replacement(copy)
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

    def _announce_replacement(self, copy: Copy) -> None:
        if copy.wish.incarnation > copy.incarnation:
            log.info("%s: to be started again, for incarnation %d", copy.name, copy.wish.incarnation)
        else:
            log.warning("%s: its shim is gone: drained and started again under a new one", copy.name)
            copy.restarts += 1

    async def _prepare(self, copy: Copy) -> None:
        try:
            await self._preparation.prepare(copy.wish, copy.workspace, copy.show_progress)
            self._note(copy)
        except FoglineError as error:
            self._custody.fail(copy, error.sentence)
        except OSError as error:
            self._custody.fail(copy, f"it cannot be prepared on this node: {error}")
        else:
            copy.show(CopyState.PREPARED)

    async def _start(self, copy: Copy, *, bind: bool) -> None:
        try:
            spec, runtime = await self._startable(copy)
            self._note(copy)
            await self._preparation.note_runtime(spec, copy.workspace)
            handle = await self._driver.start(self._launch(copy, spec, runtime, bind=bind))
        except _Never as error:
            copy.starting = False
            self._custody.fail(copy, str(error))
        except (FoglineError, OSError) as error:
            copy.starting = False
            copy.started_at_s = 0.0
            self._custody.judge(copy, Ending(reason=str(error)))
        else:
            copy.starting = False
            copy.bound = bind
            log.info("%s: started, process %d", copy.name, handle.pid)
            self._custody.attend(copy, handle)
            copy.on_change()

    async def _startable(self, copy: Copy) -> tuple[SegmentSpec, tuple[str, ...]]:
        """The spec and what it is started by. Raises _Never when trying again would not help, and OSError."""
        try:
            spec = self._preparation.allowed(copy.wish)
            self._preparation.container(spec, copy.workspace)
            return spec, await self._preparation.command(spec)
        except FoglineError as error:
            raise _Never(error.sentence) from error

    def _launch(self, copy: Copy, spec: SegmentSpec, runtime: tuple[str, ...], *, bind: bool) -> Launch:
        letters = room_for_letters(copy.workspace.state_dir, spec.pipeline)
        artifacts = self._preparation.artifacts(spec)
        container = self._preparation.container(spec, copy.workspace)
        return Launch(runtime, copy.workspace.path, artifacts, letters, bind, dict(spec.environment), container)

    def _note(self, copy: Copy) -> None:
        """Have on the disk, in both places, that it can start, or is about to, and for which incarnation."""
        self._store.save_progress(copy.wish.key, Phase.PREPARED, restarts=copy.restarts, incarnation=copy.incarnation)
        copy.workspace.write_intent(replace(copy.wish, incarnation=copy.incarnation), prepared=True)

    async def _bind(self, copy: Copy) -> None:
        copy.workspace.write_intent(replace(copy.wish, incarnation=copy.incarnation), prepared=True)
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
        released = await self._release(copy) if copy.wish.release or copy.wish.release_readers else ""
        try:
            await self._preparation.end_former_check(copy.workspace)
            await asyncio.to_thread(copy.workspace.remove)
            await self._preparation.forget(copy.wish)
        except (FoglineError, OSError) as error:
            log.warning("%s: not all of it could be removed: %s", copy.name, error)
        try:
            self._store.save_progress(copy.wish.key, Phase.GONE)
        except FoglineError as error:  # the next agent forgets it once more
            log.error("%s: %s", copy.name, error.sentence)
        copy.stages = ()
        copy.show(CopyState.GONE, released)

    async def _release(self, copy: Copy) -> str:
        try:
            return await self._preparation.release(copy.wish, copy.workspace)
        except (FoglineError, OSError) as error:
            log.warning("%s: its broker sessions stay: %s", copy.name, error)
            return f"its broker sessions stay: {error}"

    async def _drained(self, copy: Copy, attendant: asyncio.Task[None], drain_s: float) -> bool:
        if copy.control is None:
            return False
        leaving = [] if copy.wish.release else list(copy.wish.release_readers)
        drain_s = max(drain_s, LEAVE_S) if leaving else drain_s
        limit_s = drain_s + self._ladder.drain_grace_s
        deadline_s = _now_s() + limit_s
        asking = asyncio.create_task(copy.control.call("drain", timeout_s=limit_s, deadline_s=drain_s, leaving=leaving))
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


def _now_s() -> float:
    return asyncio.get_running_loop().time()
