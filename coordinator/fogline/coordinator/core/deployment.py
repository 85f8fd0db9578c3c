r"""The values a deployment is made of, and the life it leads. Pure.

::

    submit --> preparing --> draining --> starting --> running --> stopping --> stopped
                   |        (replaced       |           ^  ^  \         ^
                   |         copies only)   |           |  |   `--------+-- stop, from any state
                   |                        |           |  +-> restarting (restart; ends in running, well or not)
                   |                        +-> rolling-back (a former revision exists, and `on_failure` says so)
                   v                        v           |
                 failed <---------------- failed <------'

    running --every input is at its end--> finished --start, or a submit--> preparing; what it had ends first

A failure while preparing leaves the former revision running, untouched. `degraded` is not a phase: it is
how `running` is shown while some copy is not ready. What nodes run that this coordinator has no memory of is
taken over as `running` (`core/imports.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fogline.runtimes.spec import HealthSpec
from fogline.wire.terms import CopyState, Wanted

USUAL = HealthSpec()
"""The deadlines of a copy that asks for none of its own."""


class Phase(StrEnum):
    """Where a deployment is."""

    PREPARING = "preparing"
    DRAINING = "draining"
    STARTING = "starting"
    ROLLING_BACK = "rolling-back"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


SETTLED = frozenset({Phase.RUNNING, Phase.STOPPED, Phase.FAILED, Phase.FINISHED})
OVER = frozenset({Phase.STOPPED, Phase.FAILED, Phase.FINISHED})
"""Nothing of it runs, and nothing will by itself."""


@dataclass(frozen=True, order=True)
class Copy:
    """One segment bound to one node at one spec; while it is replaced, an assignment has two."""

    assignment: str
    spec_digest: str
    node: str
    segment: str = field(compare=False)
    depth: int = field(compare=False)
    """Its place in the order of draining and binding; another revision may give it another."""
    each: bool = field(default=False, compare=False)
    """One of those on every node that is admitted: whose node is away, is not waited for."""

    @property
    def label(self) -> str:
        """The segment, and which copy of it where that is not the first."""
        return self.segment if self.replica == "0" else f"{self.segment}/{self.replica}"

    @property
    def replica(self) -> str:
        """Which copy: a number, or the name of its node."""
        return self.assignment.split("/")[2]


@dataclass(frozen=True)
class Seen:
    """What is known of a copy right now."""

    state: CopyState = CopyState.UNKNOWN
    reason: str = ""
    restarts: int = 0
    node_connected: bool = True
    progress: str = ""
    incarnation: int = 0
    """The one its process was started for."""
    health: HealthSpec = USUAL
    """Its own deadlines."""


Observed = Mapping[Copy, Seen]


@dataclass(frozen=True)
class Want:
    """One line of a node's desired state."""

    wanted: Wanted
    bind: bool = False
    release: bool = False
    incarnation: int = 0
    """RUNNING only: a process that was started for a lower one is replaced."""
    readers: tuple[str, ...] = ()
    """STOPPED only: client ids whose broker sessions end with the copy."""


@dataclass(frozen=True)
class Outcome:
    """The verdict on a revision."""

    revision: int
    succeeded: bool
    text: str


@dataclass(frozen=True)
class Deployment:
    """Everything `reconcile` needs to remember of one pipeline."""

    id: str
    revision: int
    """The revision in charge: the one being brought up, or running."""
    phase: Phase
    since_s: float
    """When the phase was entered, seconds since the epoch."""
    target: tuple[Copy, ...] = ()
    """Its copies; of one that is over, those it had."""
    former_revision: int = 0
    former: tuple[Copy, ...] = ()
    """What ran before, while it is being replaced; what a rollback returns to."""
    leaving: tuple[Copy, ...] = ()
    """Copies that nobody wants any more, listed as STOPPED until their node reports them gone."""
    ready_since_s: float | None = None
    """Since when every copy of the target has been ready."""
    failure: Outcome | None = None
    """While rolling back: what the failed revision will be told."""
    reason: str = ""
    release: bool = False
    """Deleted: leaving copies also end their broker sessions."""
    rolls_back: bool = True
    """Whether the former revision is started again when this one does not become ready."""
    incarnations: Mapping[str, int] = field(default_factory=dict)
    """Assignment -> how often the operator had it restarted; 0 where it is not named."""
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Spec digest -> client ids of readers that nobody reads as once a copy of it was replaced."""
    recalled: Mapping[str, int] = field(default_factory=dict)
    """Assignment -> incarnation in which it was called back since the last order (`core/recall.py`)."""
