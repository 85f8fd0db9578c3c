"""How many messages a reader's session still holds, at a broker that does not tell: they are taken out."""

from __future__ import annotations

import time
from collections.abc import Callable

from fogline.runtimes.connectors.base import Source
from fogline.runtimes.poller import Poller

WINDOW = 1000
COUNT_S = 10.0
QUIET_S = 0.5
"""A session that brings nothing for so long is empty."""


def taken_out(make: Callable[[Poller, int], Source]) -> int:
    """Their number, at least. The source is never bound, so nothing new is subscribed to. Raises NotConnected."""
    poller, count = Poller(), 0
    try:
        source = make(poller, WINDOW)
        source.open()
        now = heard = time.monotonic()
        deadline = now + COUNT_S
        while now < min(deadline, heard + QUIET_S):
            found = source.take(WINDOW, QUIET_S)
            source.ack(found)
            count += len(found)
            now = time.monotonic()
            heard = now if found else heard
        source.close()
    finally:
        poller.close()
    return count
