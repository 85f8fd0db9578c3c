"""Waiting longer after each failure, up to a limit, never in step with others."""

from __future__ import annotations

import random

FIRST_S = 0.2
LONGEST_S = 5.0


class Delays:
    """0.2, 0.4, ... 5 s, each up to a quarter shorter, so that a fleet does not knock all at once."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def next_s(self) -> float:
        delay_s, self._next_s = self._next_s, min(self._next_s * 2, LONGEST_S)
        return delay_s * random.uniform(0.75, 1.0)  # noqa: S311 - jitter, not a secret

    def reset(self) -> None:
        self._next_s = FIRST_S
