"""`release`: end readers' sessions at their brokers, and say what they leave behind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import IO

import orjson

from fogline.runtimes import registry
from fogline.runtimes.errors import NotConnected
from fogline.runtimes.logs import log
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec, Exit, SegmentSpec

WINDOW = 1000
COUNT_S = 10.0
QUIET_S = 0.5
"""A session that brings nothing for so long is empty."""


def release(spec: SegmentSpec, readers: Sequence[str], out: IO[bytes]) -> int:
    """End the session of every reader of the segment, or of those named by their client id.

    One JSON line for each that had not read everything: `{"queue", "reader", "left"}`. A broker that is away
    does not keep the others; the first that was away decides the exit code.
    """
    code = Exit.DONE
    for source in spec.sources:
        if source.connector in registry.KEEPS_NOTHING or (readers and source.client_id not in readers):
            continue
        try:
            left = _left(source)
            registry.connector(source).release(source)
        except NotConnected as error:
            log.error("queue %s: %s", source.queue, error.reason)
            code = Exit.NOT_CONNECTED
        else:
            if left:
                out.write(orjson.dumps({"queue": source.queue, "reader": source.client_id, "left": left}) + b"\n")
    return code


def _left(endpoint: EndpointSpec) -> int:
    """How many messages the session still holds, at least: no broker tells, so they are taken out. The source
    is never bound, so nothing new is subscribed to."""
    poller, count = Poller(), 0
    try:
        source = registry.connector(endpoint).source(endpoint, poller, WINDOW)
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
