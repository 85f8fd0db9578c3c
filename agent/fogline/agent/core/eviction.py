"""Which artifacts go when there are too many. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Held:
    """An artifact in the cache, or what has arrived of one."""

    name: str
    """Of the file or folder."""
    digest: str
    size_bytes: int
    used_at_s: float
    """When it was last asked for, on any clock."""


def victims(held: Iterable[Held], needed: Collection[str], cap_bytes: int) -> list[Held]:
    """What has to go so that `cap_bytes` hold the rest: the least recently used first, nothing that is `needed`.

    What is needed may be more than the cap: then all else goes.
    """
    kept = sorted(held, key=lambda each: each.used_at_s)
    excess_bytes = sum(each.size_bytes for each in kept) - cap_bytes
    going = []
    for each in kept:
        if excess_bytes <= 0:
            break
        if each.digest not in needed:
            going.append(each)
            excess_bytes -= each.size_bytes
    return going
