"""What can go wrong in a segment process.

::

    RuntimeFault
    ├── NotConnected(reason)          the other side is away: wait, it mends itself
    │   └── Superseded(reason)        another copy took this reader over: never come back by oneself
    ├── StartAgain(reason)            this process cannot go on, its successor can
    ├── Cut(count)                    requests were not answered before the end
    ├── EndOfInput                    the source will never bring anything again
    ├── BackOff(seconds)              not now: ask again after so long
    ├── BadMessage(reason)            this one record cannot be used; the others can
    │   └── NotFinite(reason)         what came of it is NaN or infinite, which JSON has not
    ├── StageUnusable(stage, reason)  a stage cannot be loaded: no restart will help
    ├── NotKept(reason)               a dead letter is not on the disk: hold its message, try again
    └── RecordFailed(failure)         a record failed for good, and its stage says stop

The first four (`Superseded` is a kind of the first) are the signals between connectors and pump;
nothing else that a connector raises is understood.
"""

from __future__ import annotations

from dataclasses import dataclass


class RuntimeFault(Exception):
    """Everything this package raises on purpose."""


class NotConnected(RuntimeFault):
    """The broker cannot be reached, or refused; `reason` holds its own words and its address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Superseded(NotConnected):
    """Another client reads under this name now. Coming back would evict it, and so on for ever."""


class StartAgain(RuntimeFault):
    """What was under way is undone and comes again: only a fresh process begins where it must."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cut(RuntimeFault):
    """The deadline of a drain passed; their callers know by the broken connection."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} requests were not answered in time")


class EndOfInput(RuntimeFault):
    """The source is finished: what was taken is all there is."""


class BackOff(RuntimeFault):
    """Nothing was taken or accepted; the same call may succeed after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"back off for {seconds:g} s")
        self.seconds = seconds


class BadMessage(RuntimeFault):
    """A record that is not what it must be: undecodable, the wrong shape, too large, not JSON."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotFinite(BadMessage):
    """A number that JSON has not: what a model answers to a record that lies too far out."""


class StageUnusable(RuntimeFault):
    """`reason` is one sentence for the person; `trace`, when there is one, the user's own frames."""

    def __init__(self, stage: str, reason: str, trace: str = "") -> None:
        super().__init__(f"stage {stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.trace = trace


class NotKept(RuntimeFault):
    """The dead letter file is full, locked, unreadable or cannot be written; `reason` names it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Failure:
    """A record that failed for good: what `failure.json` shows and a dead letter holds."""

    stage: str
    reason: str
    trace: str
    record: bytes
    """The encoded record as the failing stage received it."""
    attempts: int
    origin: int
    """Place of the input message in its batch."""
    refused: bool = False
    """The record is not what the stage reads; else the stage failed at it."""


class RecordFailed(RuntimeFault):
    """Ends the segment: the message stays unacknowledged, so the broker still has it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"stage {failure.stage}: {failure.reason}")
        self.failure = failure
