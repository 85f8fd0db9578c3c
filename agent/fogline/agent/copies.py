"""A copy as the agent holds it in memory: the wish, what is known, and the process if there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fogline.agent.core.desired import Action, Assignment, Observed
from fogline.agent.core.health import Vigil
from fogline.agent.core.observed import CopySeen, StageSeen
from fogline.agent.drivers.base import Handle
from fogline.agent.host.control import Control
from fogline.agent.host.workspace import Workspace
from fogline.wire.terms import CopyState

_LOG_SHOWN = {CopyState.RESTARTING, CopyState.FAILED}


class Copy:
    """One copy. Whatever is shown goes through `show`, so that every change is told."""

    def __init__(self, wish: Assignment, workspace: Workspace, on_change: Callable[[], None]) -> None:
        self.wish = wish
        self.workspace = workspace
        self.state: CopyState | None = None
        """None: listed, nothing done yet."""
        self.reason = ""
        self.progress = ""
        self.restarts = 0
        self.stages: tuple[StageSeen, ...] = ()
        self.handle: Handle | None = None
        self.control: Control | None = None
        self.attendant: asyncio.Task[None] | None = None
        """Lives as long as the process is watched."""
        self.starting = False
        self.stopping = False
        """The process was told to end: its end is no accident."""
        self.bound = False
        self.told_revision: int | None = None
        """The one its process was told it is labelled with, 0 before; None: it answers no requests, so it is not."""
        self.started_at_s = 0.0
        self.restart_at_s = 0.0
        self.fruitless_starts = 0
        self.incarnation = 0
        """The one that was tried last."""
        self.condemned = ""
        """Why we have killed the process ourselves."""
        self.last_lines = ""
        self.vigil: Vigil | None = None
        """The deadlines that the process is under."""
        self.looking = asyncio.Lock()
        """Held by whoever talks with the process over `control`'s making and taking away."""
        self.settled = 0
        """Records acknowledged so far, as the process last counted them."""
        self.look_now = asyncio.Event()
        """Set when the next look at the process shall not wait."""
        self.task: asyncio.Task[None] | None = None
        """The change under way."""
        self.action: Action | None = None
        self.on_change = on_change
        """Called with every change that the coordinator shall see."""

    @property
    def name(self) -> str:
        """For people: the assignment and the beginning of the digest."""
        return f"{self.wish.id} ({self.wish.spec_digest[:8]})"

    @property
    def alive(self) -> bool:
        """A process exists or is being started."""
        return self.starting or self.handle is not None

    @property
    def busy(self) -> bool:
        """A change is under way."""
        return self.task is not None and not self.task.done()

    def observed(self) -> Observed | None:
        """As reconcile wants it; None before anything was done."""
        if self.state is None:
            return None
        attended = self.handle is None or self.handle.attended
        return Observed(self.state, self.alive, self.bound, self.restart_at_s, self.incarnation, attended)

    def seen(self) -> CopySeen | None:
        """As the coordinator is told; None before anything was done."""
        if self.state is None:
            return None
        pid = self.handle.pid if self.handle else 0
        shown = self.last_lines if self.state in _LOG_SHOWN else ""
        return CopySeen(
            self.wish.key,
            self.state,
            self.reason,
            pid,
            self.restarts,
            self.stages,
            self.progress,
            self.incarnation,
            shown,
        )

    def show(self, state: CopyState, reason: str | None = None, progress: str = "") -> None:
        """Enter a state; the reason stays unless a new one is given."""
        before = (self.state, self.reason, self.progress)
        self.state = state
        self.reason = self.reason if reason is None else reason
        self.progress = progress
        if before != (self.state, self.reason, self.progress):
            self.on_change()

    def show_progress(self, progress: str) -> None:
        """Say what it is busy with."""
        if self.state is not None:
            self.show(self.state, progress=progress)

    def begin_anew(self) -> None:
        """Forget what an earlier life of this copy left."""
        self.restarts = self.fruitless_starts = self.settled = 0
        self.stages = ()
        self.bound = self.stopping = False
        self.reason = self.last_lines = ""
