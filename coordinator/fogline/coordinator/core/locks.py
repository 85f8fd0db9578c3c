"""What was resolved for a revision: the locks and images of its segments, and which stages had to be parted for it.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
    context: str = ""
    """Digest of the build context of the segment's image, where it runs in a container; an artifact, unless there is
    an image."""
    image: str = ""
    """The image made from it, in a registry, by its digest."""


Locks = Mapping[tuple[str, str], KnownLock]
"""(Segment, target) -> what was resolved for it."""


@dataclass(frozen=True, order=True)
class Parted:
    """Two stages whose packages cannot be had together."""

    first: str
    second: str
    reason: str
    requirements_digest: str
    """SHA-256 of what both asked for."""


@dataclass(frozen=True)
class Resolution:
    """Kept with a revision, so that nothing is resolved twice."""

    locks: tuple[KnownLock, ...] = ()
    apart: tuple[Parted, ...] = ()

    @property
    def by_place(self) -> Locks:
        """The locks by where they are used."""
        return {(each.segment, each.target): each for each in self.locks}


NOTHING = Resolution()
