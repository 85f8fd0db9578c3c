"""Reconcile: (desired, observed, now) -> changes. Pure; the supervisor carries the changes out.

A copy is one assignment at one spec digest. Two digests of one assignment are two copies, and only one
of them may have a process: they share the client ids their brokers know.

The states of a copy::

      listed                    check passed            wanted RUNNING
    ---------> PREPARING --------------------> PREPARED ---------------> STARTING <---------+
                   |                                                        |               |
                   | check failed                                    loaded |               | start again,
                   v                                                        v               | no sooner than
                FAILED                                                   LOADED             | restart_at_s
                   ^                                                        | bound         |
                   | ended for a reason that starting again                 v               |
                   | would not mend                                       READY             |
                   |                                                        |               |
                   +-------- STARTING, LOADED or READY: process ended ------+---------> RESTARTING
                                                                            |
                                                                            +---------> FINISHED
                                                             its input ended: never started again by itself

    A process that was started for a lower incarnation, or that has lost its attendant, is drained and ended:
    its copy is PREPARED then, and starts again. A higher incarnation also calls a FAILED or
    FINISHED copy back.

    wanted STOPPED: a copy with a process --> DRAINING --> GONE; any other copy --> GONE.
    GONE is reported until no snapshot lists the copy; listed again as wanted, it begins anew.

Absence from a snapshot stops nothing: the last wish for an unlisted copy stays in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from fogline.wire.terms import CopyState, Wanted

REPLACE_DRAIN_S = 30.0
"""How long a process that is replaced may finish what it has taken."""


class CopyKey(NamedTuple):
    """What tells one copy from every other on the node."""

    assignment: str
    """`pipeline/segment/replica/lane`."""
    spec_digest: str


@dataclass(frozen=True)
class Assignment:
    """The wish for one copy."""

    id: str
    spec_digest: str
    spec: bytes
    wanted: Wanted
    bind: bool = False
    """RUNNING only: subscribe; until then the process loads and waits."""
    revision: int = 0
    drain_s: float = 0.0
    """STOPPED only: how long the process may finish what it has taken."""
    release: bool = False
    """STOPPED only: afterwards end the broker sessions of the segment's readers."""
    release_readers: tuple[str, ...] = ()
    """STOPPED only: the same for these client ids alone, which no successor reads under."""
    listed: bool = True
    """Whether the newest snapshot names this copy."""
    incarnation: int = 0
    """RUNNING only: a process that was started for a lower one is replaced."""

    @property
    def key(self) -> CopyKey:
        """The copy this wish is for."""
        return CopyKey(self.id, self.spec_digest)


@dataclass(frozen=True)
class Desired:
    """One snapshot of what a node shall run, as the coordinator numbered it."""

    cluster_id: str
    epoch: int
    generation: int
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True)
class Observed:
    """What reconcile needs to know of a copy."""

    state: CopyState
    alive: bool = False
    """A process exists, or is being started."""
    bound: bool = False
    """The process was told to bind."""
    restart_at_s: float = 0.0
    """RESTARTING: when it may be started again, on the clock of `now_s`."""
    incarnation: int = 0
    """The one that was tried last."""
    attended: bool = True
    """Whoever looks after the process on this machine is there."""


class Action(StrEnum):
    """What can be done about a copy."""

    PREPARE = "prepare"
    START = "start"
    RESTART = "restart"
    BIND = "bind"
    STOP = "stop"
    FORGET = "forget"
    """Remove the workspace: the copy is GONE."""
    DROP = "drop"
    """Remove the record: nobody lists the copy any more."""


@dataclass(frozen=True)
class Change:
    """One thing to do about one copy."""

    key: CopyKey
    action: Action
    bind: bool = False
    drain_s: float = 0.0


def merge(known: Iterable[Assignment], snapshot: Iterable[Assignment]) -> list[Assignment]:
    """The wishes after a snapshot: listed ones replace what was known, all others stay as they were."""
    wishes = {each.key: replace(each, listed=False) for each in known}
    for each in snapshot:
        former = wishes.get(each.key)
        wishes[each.key] = replace(each, listed=True, spec=each.spec or (former.spec if former else b""))
    return list(wishes.values())


def reconcile(desired: Iterable[Assignment], observed: Mapping[CopyKey, Observed], now_s: float) -> list[Change]:
    """Every change that is due now. Asked again after each change, it converges and then answers nothing."""
    ordered = sorted(desired, key=lambda wish: _precedence(wish, observed.get(wish.key)))
    owners = {wish.id: wish.key for wish in ordered if _alive(observed.get(wish.key))}
    changes = []
    for wish in ordered:
        seen = observed.get(wish.key)
        if wish.wanted is Wanted.STOPPED:
            change = _end(wish, seen)
        elif _wants_process(wish, seen) and owners.setdefault(wish.id, wish.key) != wish.key:
            change = None
        else:
            change = _serve(wish, seen, now_s)
        changes += [change] if change else []
    return changes


def next_restart_at_s(desired: Iterable[Assignment], observed: Mapping[CopyKey, Observed]) -> float | None:
    """When the earliest copy that waits to be started again is due; None when nothing waits."""
    waiting = (observed.get(wish.key) for wish in desired if wish.wanted is Wanted.RUNNING)
    return min((seen.restart_at_s for seen in waiting if seen and seen.state is CopyState.RESTARTING), default=None)


def _precedence(wish: Assignment, seen: Observed | None) -> tuple[bool, bool, int, str]:
    """Which copy of an assignment may have the process: the one that had it, then the newest wish."""
    had_process = seen is not None and seen.state is CopyState.RESTARTING
    return (not had_process, not wish.listed, -wish.revision, wish.spec_digest)


def _alive(seen: Observed | None) -> bool:
    return seen is not None and seen.alive


def _wants_process(wish: Assignment, seen: Observed | None) -> bool:
    startable = {CopyState.PREPARED, CopyState.RESTARTING, CopyState.DRAINING}
    return wish.wanted is Wanted.RUNNING and seen is not None and not seen.alive and seen.state in startable


def _end(wish: Assignment, seen: Observed | None) -> Change | None:
    if seen is not None and seen.state is CopyState.GONE:
        return None if wish.listed else Change(wish.key, Action.DROP)
    if _alive(seen):
        return Change(wish.key, Action.STOP, drain_s=wish.drain_s)
    return Change(wish.key, Action.FORGET)


def _serve(wish: Assignment, seen: Observed | None, now_s: float) -> Change | None:
    if seen is None or seen.state is CopyState.GONE:
        return Change(wish.key, Action.PREPARE)
    if wish.wanted is not Wanted.RUNNING:
        return None
    called_back = wish.incarnation > seen.incarnation
    if seen.state in {CopyState.FAILED, CopyState.FINISHED} and called_back:
        return Change(wish.key, Action.PREPARE)
    if seen.alive and (called_back or not seen.attended):
        return Change(wish.key, Action.STOP, drain_s=wish.drain_s or REPLACE_DRAIN_S)
    if seen.state is CopyState.LOADED and wish.bind and not seen.bound:
        return Change(wish.key, Action.BIND)
    if not _wants_process(wish, seen):
        return None
    if seen.state is not CopyState.RESTARTING:
        return Change(wish.key, Action.START, bind=wish.bind)
    if now_s >= seen.restart_at_s or called_back:
        return Change(wish.key, Action.RESTART, bind=wish.bind)
    return None
