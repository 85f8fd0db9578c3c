"""Owns every copy of the node: asks reconcile what is due and has it carried out, one change per copy.

::

    accept (stored first) ----+
    a copy changed -----------+--> reconcile --> changes --> one task per copy --> lifecycle
    a restart is due ---------+

Level-triggered: a change that cannot be carried out now is simply asked for again later. A prepare or
bind under way gives way to whatever ends the copy; everything else under way is bounded and finishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from fogline.agent.attendance import last_counted, look
from fogline.agent.copies import Copy
from fogline.agent.core.desired import Action, Assignment, Change, CopyKey, Desired, merge, next_restart_at_s, reconcile
from fogline.agent.core.observed import Observation
from fogline.agent.custody import Custody
from fogline.agent.drivers.base import Driver
from fogline.agent.host.stagelog import last_lines
from fogline.agent.host.workspace import Workspace, existing
from fogline.agent.lifecycle import Ladder, Lifecycle
from fogline.agent.preparation import Preparation
from fogline.agent.store.sqlite import CopyRecord, Membership, Phase, Store
from fogline.wire.terms import CopyState, ErrorKind, FoglineError, Wanted

log = logging.getLogger(__name__)

_GIVES_WAY = {Action.PREPARE, Action.BIND}
_ENDS = {Action.STOP, Action.FORGET}
_WAITS = "waits until another copy of this assignment has ended"
FRESH_LOOK_S = 2.0


class Supervisor:
    """The node's copies. Everything but `run` may be called at any time from the same event loop."""

    def __init__(
        self,
        state_dir: Path,
        store: Store,
        driver: Driver,
        preparation: Preparation,
        ladder: Ladder | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._store = store
        ladder = ladder or Ladder()
        self._custody = Custody(driver, store, self._spawn, ladder.hello_s)
        self._lifecycle = Lifecycle(driver, preparation, store, self._custody, ladder)
        self._copies: dict[CopyKey, Copy] = {}
        self._group = asyncio.TaskGroup()
        self._nudged = asyncio.Event()
        self._closing = False
        self.changed = asyncio.Event()
        """Set whenever an observation would differ; whoever reports clears it."""
        self.restored = asyncio.Event()
        """Set once what an earlier agent left running is known."""

    async def run(self) -> None:
        """Adopt what runs, then converge until cancelled. Processes are left running."""
        async with self._group:
            await self._restore()
            self.restored.set()
            while True:
                self._nudged.clear()
                due_in_s = self._turn()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due_in_s):
                        await self._nudged.wait()

    def accept(self, desired: Desired) -> None:
        """Store a snapshot, then act on it. Raises FoglineError when it is older than the stored one."""
        stored = self._store.membership()
        if (desired.epoch, desired.generation) < (stored.epoch, stored.generation):
            raise FoglineError(
                ErrorKind.CONFLICT,
                f"desired state {desired.epoch}.{desired.generation} is older than "
                f"{stored.epoch}.{stored.generation}, which this node has stored: refused",
            )
        wishes = merge((copy.wish for copy in self._copies.values()), desired.assignments)
        numbered = replace(stored, epoch=desired.epoch, generation=desired.generation)
        self._store.save_desired(numbered, wishes)
        for wish in wishes:
            copy = self._copy(wish)
            if copy.told_revision is not None and copy.wish.revision != wish.revision:
                copy.look_now.set()
            copy.wish = wish
        self._nudged.set()
        self.changed.set()  # the number of the desired state is part of the observation

    def membership(self) -> Membership:
        """Whom the node belongs to, and the newest snapshot it has stored."""
        return self._store.membership()

    def join(self, cluster_id: str) -> None:
        """Belong to this cluster from now on. Its numbering starts anew, the copies stay."""
        self._store.save_membership(Membership(cluster_id))

    def observation(self) -> Observation:
        """Every copy as last seen."""
        stored = self._store.membership()
        seen = (copy.seen() for copy in self._copies.values())
        return Observation(tuple(each for each in seen if each), stored.epoch, stored.generation)

    def holdings(self) -> Desired:
        """Every wish that is in force here, numbered as the newest snapshot was."""
        stored = self._store.membership()
        wishes = tuple(copy.wish for copy in self._copies.values() if copy.state is not CopyState.GONE)
        return Desired(stored.cluster_id, stored.epoch, stored.generation, wishes)

    def of_pipeline(self, pipeline: str) -> list[Copy]:
        """Every copy of this pipeline that has a process."""
        return [copy for copy in self._copies.values() if copy.alive and copy.wish.id.startswith(f"{pipeline}/")]

    async def fresh_observation(self) -> Observation:
        """Every copy as it is now; a process that does not answer in time shows what it said last."""
        looks = [asyncio.create_task(look(copy)) for copy in self._copies.values() if copy.handle]
        if looks:
            _, late = await asyncio.wait(looks, timeout=FRESH_LOOK_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
        return self.observation()

    def find(self, assignment: str) -> Copy:
        """The copy of an assignment that people mean: the running one, else the newest. Raises FoglineError."""
        candidates = [
            copy
            for copy in self._copies.values()
            if copy.wish.id == assignment and copy.state not in {None, CopyState.GONE}
        ]
        if not candidates:
            raise FoglineError(ErrorKind.NOT_FOUND, f"{assignment} is not on this node")
        return max(candidates, key=lambda copy: (copy.alive, copy.wish.revision))

    async def stop_all(self, drain_s: float) -> None:
        """End every process and start no other. Call while `run` still runs."""
        self._closing = True
        under_way = [copy.task for copy in self._copies.values() if copy.task and copy.busy]
        for copy in self._copies.values():
            if copy.task and copy.action in _GIVES_WAY:
                copy.task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        async with asyncio.TaskGroup() as group:
            for copy in self._copies.values():
                group.create_task(self._lifecycle.stop(copy, drain_s))

    def _spawn(self, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(doing)

    def _copy(self, wish: Assignment) -> Copy:
        if wish.key not in self._copies:
            workspace = Workspace.of(self._state_dir, wish.key)
            self._copies[wish.key] = Copy(wish, workspace, self._on_change)
        return self._copies[wish.key]

    def _on_change(self) -> None:
        self._nudged.set()
        self.changed.set()

    def _turn(self) -> float | None:
        """One reconcile; returns how long it holds if nothing happens."""
        if self._closing:
            return None
        wishes = [copy.wish for copy in self._copies.values()]
        observed = {key: seen for key, copy in self._copies.items() if (seen := copy.observed())}
        now_s = asyncio.get_running_loop().time()
        changes = reconcile(wishes, observed, now_s)
        for change in changes:
            self._dispatch(change)
        self._show_waiting({change.key for change in changes})
        due_s = next_restart_at_s(wishes, observed)
        return None if due_s is None or due_s <= now_s else due_s - now_s

    def _dispatch(self, change: Change) -> None:
        copy = self._copies[change.key]
        if copy.busy:
            if change.action in _ENDS and copy.action in _GIVES_WAY and copy.task:
                copy.task.cancel()  # its end asks for this change again
            return
        if change.action is Action.DROP:
            self._drop(change.key)
            return
        self._lifecycle.announce(copy, change)
        copy.action = change.action
        copy.task = self._spawn(self._carry_out(copy, change))
        copy.task.add_done_callback(lambda _: self._nudged.set())

    def _drop(self, key: CopyKey) -> None:
        try:
            self._store.drop(key)
        except FoglineError as error:  # asked for again with the next change
            log.error("%s: %s", key.assignment, error.sentence)
        else:
            del self._copies[key]
            self.changed.set()

    async def _carry_out(self, copy: Copy, change: Change) -> None:
        try:
            await self._lifecycle.carry_out(copy, change)
        except Exception as error:
            log.exception("%s: %s went wrong in the agent itself", copy.name, change.action.value)
            copy.starting = False
            if not copy.alive:
                self._custody.fail(copy, f"the agent could not {change.action.value} it: {error!r}")

    def _show_waiting(self, changing: set[CopyKey]) -> None:
        for key, copy in self._copies.items():
            if copy.state is not CopyState.PREPARED or copy.busy:
                continue
            waits = copy.wish.wanted is Wanted.RUNNING and key not in changing
            copy.show_progress(_WAITS if waits else "")

    async def _restore(self) -> None:
        records = {record.wish.key: record for record in self._store.copies()}
        for record in self._orphaned(records):
            records[record.wish.key] = record
            self._remember(record)
        async with asyncio.TaskGroup() as adopting:
            for record in records.values():
                copy = self._copy(record.wish)
                copy.restarts, copy.incarnation = record.restarts, record.incarnation
                if record.phase is Phase.PREPARED:
                    adopting.create_task(self._custody.adopt(copy))
                elif record.phase is not Phase.NEW:
                    copy.show(CopyState(record.phase.value), record.reason)
                if copy.state is CopyState.FINISHED:
                    copy.stages = last_counted(copy.workspace.finished())
                if copy.state is CopyState.FAILED:
                    copy.last_lines = last_lines(copy.workspace.log)

    def _remember(self, record: CopyRecord) -> None:
        try:
            self._store.save_desired(self._store.membership(), [record.wish])
            self._store.save_progress(record.wish.key, record.phase, incarnation=record.incarnation)
        except FoglineError as error:  # its workspace goes on telling of it
            log.error("%s: %s", record.wish.id, error.sentence)

    def _orphaned(self, known: dict[CopyKey, CopyRecord]) -> list[CopyRecord]:
        """Copies that the store has lost but whose workspaces tell of them: they go on as they were."""
        found = []
        for workspace in existing(self._state_dir):
            intent = workspace.intent()
            if intent is None or intent.wish.key in known:
                continue
            wish = intent.wish
            if Workspace.of(self._state_dir, wish.key) != workspace:
                continue
            log.warning("%s was lost from the agent's store and is found again in %s", wish.id, workspace.path)
            phase = Phase.PREPARED if intent.prepared else Phase.NEW
            found.append(CopyRecord(wish, phase, incarnation=wish.incarnation))
        return found
