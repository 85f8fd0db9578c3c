"""What every driver can do: start a copy, find it again after the agent was away, watch and end it.

A driver prepares nothing: artifacts, workspace and check come before it. It owns no policy either: when
to start, how long to drain and what an exit means is decided by its caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Container:
    """What a copy that runs in a container gets besides."""

    image: str
    """Its id: nothing is ever fetched under a name."""
    memory_bytes: int = 0
    """0: as much as there is."""
    cpus: float = 0.0
    """0: as many as there are."""
    secrets: tuple[str, ...] = ()
    """Names of the only ones it may see."""
    folders: dict[str, str] = field(default_factory=dict)
    """Of the files that it reads (`ro`) or writes (`rw`)."""
    reads_files: bool = False
    """It keeps how far it has read."""
    labels: dict[str, str] = field(default_factory=dict)
    tls: bool = False
    """It gets the node's certificate and its key."""


@dataclass(frozen=True)
class Launch:
    """Everything needed to start one copy."""

    runtime: tuple[str, ...]
    """The command that `fogline.runtimes` is, for this copy."""
    workspace: Path
    """Holds `spec.json`; becomes the working folder. What the last process left there goes."""
    artifacts: Path
    """Folder of verified artifacts, each under its digest."""
    dead_letters: Path
    """File that outlives the workspace; its folder exists."""
    bind: bool
    """Subscribe as soon as everything is loaded, instead of waiting to be told."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables on top of the agent's own; in a container the only ones."""
    container: Container | None = None
    """None: it is a process of this machine."""


@dataclass(frozen=True)
class Exit:
    """How a process ended: a code, a signal, or neither when nobody saw it."""

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    """The signal came from the kernel, for lack of memory."""
    memory_limit_bytes: int = 0
    """What it had at most; 0: whatever the machine has."""


class Handle(Protocol):
    """A copy that runs, or ran."""

    @property
    def pid(self) -> int:
        """The stage's process id."""
        ...

    @property
    def known_as(self) -> int:
        """The id that the process itself knows: in a container another one."""
        ...

    @property
    def age_s(self) -> float:
        """Seconds since it was started, whoever started it."""
        ...

    @property
    def attended(self) -> bool:
        """Whether whoever keeps its log short and notes its end is there; if not, it should be replaced."""
        ...

    async def wait(self) -> Exit:
        """Return once the process has ended; may be called by several tasks, and again after the end."""
        ...

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM). Nothing happens when it has ended."""
        ...

    def kill(self) -> None:
        """End the process and everything in its group (SIGKILL). Nothing happens when it has ended."""
        ...

    def close(self) -> None:
        """Stop watching. The process is not touched."""
        ...


class Driver(Protocol):
    """One way for an assignment to become something that runs."""

    @property
    def name(self) -> str:
        """As reported to the coordinator, such as `process`."""
        ...

    async def start(self, launch: Launch) -> Handle:
        """Start a copy. Raises FoglineError with the reason when nothing runs afterwards."""
        ...

    async def adopt(self, workspace: Path) -> Handle | None:
        """The copy that was started in `workspace` and still runs; None when there is none.

        Identity is proven, never guessed from a pid alone, and nothing is ever signalled here.
        """
        ...
