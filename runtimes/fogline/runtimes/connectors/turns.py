"""Turns in the poller's wait, for a client library that has no socket of its own to watch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fogline.runtimes.poller import Poller

FAST_S = 0.001
SLOW_S = 0.02
LINGER = 200
"""Fast turns after the last one in which something happened."""
KEEP_ALIVE_S = 5.0


class Turns:
    """Calls `turn` every millisecond or so while it answers True, and some while longer; then less and less often.

    While user code runs there is still one every few seconds.
    """

    def __init__(self, poller: Poller, turn: Callable[[], bool]) -> None:
        self.running = False
        self._poller = poller
        self._turn = turn
        self._idle = 0
        self._number = 0

    def start(self) -> None:
        self.running = True
        self._idle = 0
        self._poller.keep_alive(KEEP_ALIVE_S)
        self._schedule()

    def stop(self) -> None:
        self.running = False
        self._number += 1

    def hurry(self) -> None:
        """Something is expected soon."""
        slow, self._idle = self._idle > LINGER, 0
        if slow and self.running:
            self._schedule()

    def _schedule(self) -> None:
        self._number += 1
        slower = max(0, self._idle - LINGER)
        delay_s = min(SLOW_S, FAST_S * (1 + slower))
        self._poller.call_later(delay_s, partial(self._take, self._number))

    def _take(self, number: int) -> None:
        if number == self._number:
            self._idle = 0 if self._turn() else self._idle + 1
            if number == self._number:
                self._schedule()
