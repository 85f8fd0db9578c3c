"""`release`: end readers' sessions at their brokers, and say what they leave behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import orjson

from fogline.runtimes import registry
from fogline.runtimes.errors import NotConnected
from fogline.runtimes.logs import log
from fogline.runtimes.spec import Exit, SegmentSpec


def release(spec: SegmentSpec, readers: Sequence[str], out: IO[bytes]) -> int:
    """End the session of every reader of the segment, or of those named by their client id.

    One JSON line for each that had not read everything: `{"queue", "reader", "left"}`. A broker that is away
    does not keep the others; the first that was away decides the exit code.
    """
    code = Exit.DONE
    for source in spec.sources:
        if readers and source.client_id not in readers:
            continue
        try:
            others = source.shared and bool(readers)
            left = registry.connector(source).release(source, others=others)
        except NotConnected as error:
            log.error("queue %s: %s", source.queue, error.reason)
            code = Exit.NOT_CONNECTED
        else:
            if left:
                out.write(orjson.dumps({"queue": source.queue, "reader": source.client_id, "left": left}) + b"\n")
    return code
