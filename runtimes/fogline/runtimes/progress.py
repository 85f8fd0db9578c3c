"""Whether user code gets anywhere: a tick per record where the runtime hands records over one by one, per
call where it hands over whole batches. Written by the pump's thread, read by the control thread."""

from __future__ import annotations

import time
from collections.abc import Iterable


class Progress:
    """Of one stage. `ticked_at` is set from the moment user code is entered until it is left."""

    __slots__ = ("ticked_at",)

    def __init__(self) -> None:
        self.ticked_at: float | None = None
        """`time.monotonic()` of the last tick; None while no user code runs."""

    def tick(self) -> None:
        """User code is entered, or came to the next record."""
        self.ticked_at = time.monotonic()

    def leave(self) -> None:
        """No user code runs."""
        self.ticked_at = None

    @property
    def stalled_s(self) -> float:
        """Seconds since the last tick; 0.0 while no user code runs."""
        ticked_at = self.ticked_at
        return 0.0 if ticked_at is None else time.monotonic() - ticked_at


def longest_stall(stages: Iterable[tuple[Progress, str]]) -> tuple[float, str]:
    """Seconds since the last tick, of the stage that has waited longest, and its name; empty while none does."""
    stalled_s, stage = max(((each.stalled_s, name) for each, name in stages), default=(0.0, ""))
    return round(stalled_s, 3), stage if stalled_s else ""
