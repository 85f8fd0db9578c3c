"""What an agent sees of a copy, as it is told to the coordinator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fogline.agent.core.desired import CopyKey
from fogline.wire.terms import CopyState


@dataclass(frozen=True)
class ReadingSeen:
    """How far behind a stage is with one of its queues, as its process tells."""

    queue: str
    lag: int | None = None
    """None: the broker does not tell."""
    oldest_s: float | None = None
    """None: it holds nothing unacknowledged."""


@dataclass(frozen=True)
class StageSeen:
    """One stage of a copy, as its process counts it."""

    name: str
    counters: Mapping[str, int] = field(default_factory=dict)
    p50_s: float = 0.0
    p99_s: float = 0.0
    readings: tuple[ReadingSeen, ...] = ()
    rate: float = 0.0
    """Records that enter it per second."""
    requests: int = 0
    """In API mode those that its process answered, and `errors` those of them that got an error."""
    errors: int = 0


@dataclass(frozen=True)
class CopySeen:
    """One copy."""

    key: CopyKey
    state: CopyState
    reason: str = ""
    pid: int = 0
    restarts: int = 0
    stages: tuple[StageSeen, ...] = ()
    progress: str = ""
    incarnation: int = 0
    """The one that was tried last."""
    last_lines: str = ""
    """Of its log, while it is RESTARTING or FAILED."""


@dataclass(frozen=True)
class Observation:
    """Every copy of the node, and the desired state that they answer to."""

    copies: tuple[CopySeen, ...]
    epoch: int
    generation: int
