"""`publish`: JSON records from standard input onto a queue of the spec, each confirmed by the broker."""

from __future__ import annotations

import dataclasses
import time
import uuid
from typing import IO, Any

import orjson

from fogline.runtimes import registry
from fogline.runtimes.codecs import PAYLOAD_LIMIT_BYTES, codec, decode_json
from fogline.runtimes.connectors.base import Sink
from fogline.runtimes.errors import BadMessage, NotConnected, StageUnusable
from fogline.runtimes.lines import chunks
from fogline.runtimes.message import Item, just_read
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec, Exit, SegmentSpec, SpecError

CHUNK_RECORDS = 256
CONFIRM_TIMEOUT_S = 10.0


class _BadLine(Exception):
    """A line that is not a record; everything before it is confirmed."""


def publish(spec: SegmentSpec, queue: str, lines: int, out: IO[bytes]) -> int:
    """Publish every line of descriptor `lines`; after each chunk a line `{"confirmed": n}`, n so far.

    A broker that is away, or that confirms nothing for 10 s, and a queue that its reader is not
    subscribed to, end with `{"error": ...}` and exit code 69; a line that is no record with 65.
    """
    poller = Poller()
    try:
        endpoint = _endpoint(spec, queue)
        return _Publisher(endpoint, poller, out).run(lines)
    except SpecError as error:
        return _end(out, Exit.BAD_SPEC, str(error))
    except (_BadLine, StageUnusable) as error:
        return _end(out, Exit.STAGE_UNUSABLE, str(error))
    except NotConnected as error:
        return _end(out, Exit.NOT_CONNECTED, error.reason)
    finally:
        poller.close()


class _Publisher:
    def __init__(self, endpoint: EndpointSpec, poller: Poller, out: IO[bytes]) -> None:
        self._sink: Sink = registry.connector(endpoint).sink(endpoint, poller)
        self._format = str(endpoint.options.get("format", "json"))
        self._poller = poller
        self._out = out
        self._confirmed = 0
        self._line = 0

    def run(self, lines: int) -> int:
        self._sink.open()
        try:
            for chunk in chunks(lines, CHUNK_RECORDS):
                items, bad = self._items(chunk)
                self._send(items)
                if bad:
                    raise _BadLine(bad)
        finally:
            self._sink.close()
        _say(self._out, {"confirmed": self._confirmed})
        return Exit.DONE

    def _items(self, chunk: list[bytes]) -> tuple[list[Item], str]:
        """The records up to the first bad line, and what is wrong with that."""
        items: list[Item] = []
        for line in chunk:
            self._line += 1
            if not line.strip():
                continue
            try:
                items.append(Item(0, uuid.uuid4().hex, self._payload(line.strip()), just_read()))
            except orjson.JSONDecodeError as error:
                return items, f"line {self._line} is not JSON: {error}"
            except BadMessage as error:
                return items, f"line {self._line}: {error.reason}"
        return items, ""

    def _payload(self, line: bytes) -> bytes:
        """The line as it is on a queue of JSON; on another format what the JSON value becomes there."""
        record = orjson.loads(line)
        if self._format != "json":
            return codec(self._format)[1](record)
        if len(line) > PAYLOAD_LIMIT_BYTES:
            decode_json(line)
        return line

    def _send(self, items: list[Item]) -> None:
        if not items:
            return
        receipt = self._sink.send(items)
        left, deadline = receipt.left, time.monotonic() + CONFIRM_TIMEOUT_S
        while not receipt.done:
            if time.monotonic() > deadline:
                raise NotConnected(self._sink.error or f"the broker confirmed nothing for {CONFIRM_TIMEOUT_S:g} s")
            self._poller.wait(0.5)
            if receipt.left < left:
                left, deadline = receipt.left, time.monotonic() + CONFIRM_TIMEOUT_S
        self._confirmed += len(items)
        _say(self._out, {"confirmed": self._confirmed})


def _endpoint(spec: SegmentSpec, queue: str) -> EndpointSpec:
    """A writer of our own for the queue. Somebody must read it when a stage does: at least this one."""
    for endpoint in (*spec.sources, *spec.sinks):
        if endpoint.queue == queue and endpoint.connector == "file":
            where = endpoint.options["path"]
            raise SpecError(f"queue {queue} is a file: put the records into {where}, and start the pipeline again")
        if endpoint.queue == queue:
            read = endpoint in spec.sources or endpoint.read_by_stage
            name = f"{endpoint.client_id}.publish.{uuid.uuid4().hex[:8]}"
            return dataclasses.replace(endpoint, client_id=name, read_by_stage=read)
    known = dict.fromkeys(each.queue for each in (*spec.sources, *spec.sinks))
    raise SpecError(f"the spec has no queue {queue!r}; it has {', '.join(known) or 'none'}")


def _end(out: IO[bytes], code: int, reason: str) -> int:
    _say(out, {"error": reason})
    return code


def _say(out: IO[bytes], answer: dict[str, Any]) -> None:
    out.write(orjson.dumps(answer) + b"\n")
    out.flush()
