"""What is worth telling of a deployment's life, from what was before and what is after. Pure.

An event is told once, when it happens; `coord events` reads them back. What a copy does while it is brought
up in the ordinary way is no event: its phase and its verdict tell that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fogline.coordinator.core.deployment import OVER, SETTLED, Copy, Deployment, Outcome, Phase, Seen
from fogline.wire.terms import CopyState

LOOP_RESTARTS = 3
"""A copy that was started so often again without getting ready is in a crash loop."""
_ENDING = OVER | {Phase.STOPPING}


class Kind(StrEnum):
    """What an event is about."""

    SUBMITTED = "submitted"
    PHASE = "phase"
    VERDICT = "verdict"
    COPY = "copy"
    NODE = "node"
    IMPORTED = "imported"
    START = "start"
    RESTART = "restart"
    STOP = "stop"
    DELETE = "delete"


@dataclass(frozen=True)
class Event:
    """One thing that happened, for people: to a deployment, to one copy of it, or to a node."""

    kind: Kind
    text: str
    deployment: str = ""
    revision: int = 0
    node: str = ""
    segment: str = ""


@dataclass(frozen=True)
class Health:
    """What the events told last of a copy, so that nothing is told twice."""

    unwell: str = ""
    """`restarting`, `crash loop`, `failed`, `degraded` or `finished`; empty while there is nothing to tell."""
    restarts: int = 0
    """When it was last well."""


def turn_events(before: Deployment | None, after: Deployment, outcomes: Sequence[Outcome]) -> list[Event]:
    """The verdicts of one turn of reconcile, and the phase it led to where no verdict says so already."""
    events = [
        Event(Kind.VERDICT, _verdict(outcome), deployment=after.id, revision=outcome.revision) for outcome in outcomes
    ]
    called_back = sorted(after.recalled.keys() - (before.recalled.keys() if before else ()))
    for segment in (each.split("/")[1] for each in called_back):
        text = "called back: another copy had taken its reader over"
        events.append(Event(Kind.RESTART, text, after.id, after.revision, segment=segment))
    moved = before is None or before.phase is not after.phase
    if moved and not (outcomes and after.phase in SETTLED):
        text = f"{after.phase.value}: {after.reason}" if after.reason else after.phase.value
        events.append(Event(Kind.PHASE, text, deployment=after.id, revision=after.revision))
    return events


def copy_events(
    deployment: Deployment, told: Mapping[Copy, Health], observed: Mapping[Copy, Seen]
) -> tuple[list[Event], dict[Copy, Health]]:
    """What befell the copies in charge since the last time, and what to remember for the next.

    Nothing befalls what is being stopped, or was.
    """
    events: list[Event] = []
    remembered: dict[Copy, Health] = {}
    if deployment.phase in _ENDING:
        return events, remembered
    for copy in deployment.target:
        last, seen = told.get(copy), observed.get(copy, Seen())
        if last is None and seen.state is CopyState.UNKNOWN:  # nothing to compare with, nothing to remember
            continue
        text, remembered[copy] = _befallen(last or Health(restarts=seen.restarts), seen)
        if text:
            events.append(
                Event(Kind.COPY, text, deployment.id, deployment.revision, node=copy.node, segment=copy.segment)
            )
    return events, remembered


def _befallen(before: Health, seen: Seen) -> tuple[str, Health]:
    """What to tell of one copy (nothing: empty), and its health from now on."""
    deaths = seen.restarts - before.restarts
    if seen.state is CopyState.READY and not seen.reason:
        again = f" ({_times(deaths)})" if deaths > 0 else ""
        told = f"ready again{again}" if before.unwell else f"died and runs again{again}" if again else ""
        return told, Health(restarts=seen.restarts)
    if seen.state is CopyState.READY:
        unwell = "degraded"
    elif seen.state in {CopyState.FAILED, CopyState.FINISHED}:
        unwell = seen.state.value
    elif seen.state is not CopyState.RESTARTING:
        return "", before
    else:
        looping = deaths >= LOOP_RESTARTS or before.unwell == "crash loop"
        unwell = "crash loop" if looping else "restarting"
    if before.unwell == unwell:
        return "", before
    count = f", {_times(deaths)} since it was ready" if unwell == "crash loop" else ""
    return f"{unwell}{count}{f': {seen.reason}' if seen.reason else ''}", Health(unwell, before.restarts)


def _times(restarts: int) -> str:
    return "1 restart" if restarts == 1 else f"{restarts} restarts"


def _verdict(outcome: Outcome) -> str:
    return outcome.text if outcome.succeeded else f"revision {outcome.revision} failed: {outcome.text}"
