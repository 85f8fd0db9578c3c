"""The table of events: written with what they tell of, read back by number."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from fogline.coordinator.core.events import Event, Kind
from fogline.coordinator.store import tables as t

EVENTS_KEPT = 10_000
"""The newest so many; older ones give way."""


@dataclass(frozen=True)
class StoredEvent:
    """An event with its number (never used twice) and when it was written, seconds since the epoch."""

    number: int
    at: float
    event: Event


@dataclass(frozen=True)
class Wanted:
    """Which events: of one deployment (empty: of all, and of nodes), since when, after which number, how many."""

    deployment: str = ""
    since: float = 0.0
    after: int = 0
    limit: int = 0
    """The newest so many; 0: all."""


def write(connection: Connection, events: Sequence[Event]) -> None:
    """Append events, inside the transaction of what they tell of."""
    if not events:
        return
    now = time.time()
    rows = [
        {"at": now, "kind": each.kind.value, "text": each.text, "deployment": each.deployment}
        | {"revision": each.revision, "node": each.node, "segment": each.segment}
        for each in events
    ]
    connection.execute(insert(t.events), rows)
    newest = connection.execute(select(func.max(t.events.c.number))).scalar_one()
    connection.execute(delete(t.events).where(t.events.c.number <= newest - EVENTS_KEPT))


def read(connection: Connection, wanted: Wanted) -> list[StoredEvent]:
    """The events that are wanted, oldest first."""
    query = select(t.events).where(t.events.c.number > wanted.after, t.events.c.at >= wanted.since)
    if wanted.deployment:
        query = query.where(t.events.c.deployment == wanted.deployment)
    query = query.order_by(t.events.c.number.desc())
    if wanted.limit:
        query = query.limit(wanted.limit)
    found = [
        StoredEvent(
            row["number"],
            row["at"],
            Event(Kind(row["kind"]), row["text"], row["deployment"], row["revision"], row["node"], row["segment"]),
        )
        for row in connection.execute(query).mappings()
    ]
    return found[::-1]


def deployments(connection: Connection) -> list[str]:
    """Every deployment that events tell of, deleted ones included."""
    query = select(t.events.c.deployment).where(t.events.c.deployment != "").distinct()
    return sorted(connection.execute(query).scalars())
