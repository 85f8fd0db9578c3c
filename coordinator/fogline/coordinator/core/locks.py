"""Which lock a segment gets on which kind of node. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Locks = Mapping[tuple[str, str], str]
"""(Segment, target) -> digest of the lock."""


@dataclass(frozen=True, order=True)
class KnownLock:
    """A lock, what it was made for, and what was asked for."""

    segment: str
    target: str
    """Kind of node, as in `core/fleet.py`."""
    requirements_digest: str
    """SHA-256 of what its environment was to hold."""
    digest: str
    """Of the lock, an artifact."""


def by_place(known: Iterable[KnownLock]) -> Locks:
    """The locks by where they are used."""
    return {(each.segment, each.target): each.digest for each in known}
