"""Envelopes: what travels on an automatic queue, where one message carries many records.

A broker's price is per message, hardly per byte: 64 records in one message cost about as much as one. So between two
of our own stages the records of a batch go together, each exactly as it would be on a plain queue.

::

    "fogline envelope 1\\n"  length of the head, 4 bytes big-endian  head (JSON)  payload  payload ...
    head: {"ids": [id of each record], "sizes": [bytes of each payload],
           "times": [milliseconds], "traces": [traceparent], "keys": [bytes as Latin-1, or null]}

The last three are there when any record has such a thing. Unknown keys are passed over.

The envelope is what the broker delivers and acknowledges, the record what is run, counted and, when it fails, kept as
a dead letter. An envelope that is only half done when its connection is lost comes again whole.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import orjson

from fogline.runtimes.connectors.base import Connector, Receipt, Sink, Source
from fogline.runtimes.errors import RuntimeFault
from fogline.runtimes.message import LATEST_MS, Carried, Item, Message, trace_of
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

MARK = b"fogline envelope 1\n"
WINDOW = 8
"""Envelopes that a reader has unacknowledged at once: each may hold as much as the largest record."""
FULL_BYTES = 256 * 1024
"""Payload bytes after which an envelope is closed; a larger record has one of its own."""
_LENGTH_BYTES = 4


Record = tuple[str, bytes, Carried]
"""Id, payload, and what it carries."""


def pack(items: Sequence[Item]) -> bytes:
    """One envelope around these records."""
    ids, sizes = [item.id for item in items], [len(item.payload) for item in items]
    head = orjson.dumps({"ids": ids, "sizes": sizes, **_taken_along([item.carried for item in items])})
    return b"".join((MARK, len(head).to_bytes(_LENGTH_BYTES, "big"), head, *[item.payload for item in items]))


def unpack(payload: bytes, time_ms: int = 0) -> list[Record]:
    """The records; those that know no time of their own get `time_ms`. Raises ValueError for anything that is no
    envelope."""
    start = len(MARK) + _LENGTH_BYTES
    if not payload.startswith(MARK) or len(payload) < start:
        raise ValueError("no envelope")
    end = start + int.from_bytes(payload[len(MARK) : start], "big")
    head = orjson.loads(payload[start:end])
    try:
        ids, sizes = list(map(str, head["ids"])), list(map(int, head["sizes"]))
        carried = _brought(head, len(ids), time_ms)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no head of an envelope: {error!r}") from None
    ends = list(accumulate(sizes, initial=end))
    if not len(ids) == len(sizes) == len(carried) or min(sizes, default=0) < 0 or ends[-1] != len(payload):
        raise ValueError("an envelope whose sizes are not those of its records")
    return [(ident, payload[a:b], each) for ident, a, b, each in zip(ids, ends, ends[1:], carried, strict=False)]


def _taken_along(carried: Sequence[Carried]) -> dict[str, list[Any]]:
    """What the head says of it. A key is bytes, which JSON has not: Latin-1 has a letter for each."""
    keys, times_ms, traces = zip(*carried, strict=True) if carried else ((), (), ())
    along: dict[str, list[Any]] = {"times": list(times_ms)} if any(times_ms) else {}
    if any(traces):
        along["traces"] = list(traces)
    if any(key is not None for key in keys):
        along["keys"] = [None if key is None else key.decode("latin-1") for key in keys]
    return along


def _brought(head: dict[str, Any], count: int, time_ms: int) -> list[Carried]:
    """The same, read; a head of an earlier release has none of it. Neighbours often carry the same."""
    if not head.keys() & {"times", "traces", "keys"}:
        return [Carried(None, time_ms)] * count
    times_ms = [_time_ms(each) or time_ms for each in head.get("times", [0] * count)]
    traces = [trace_of(each.encode()) for each in head["traces"]] if "traces" in head else [""] * count
    keys = head.get("keys", [None] * count)
    if not len(keys) == len(times_ms) == len(traces):
        return []
    known = {each: _carried(*each) for each in set(zip(keys, times_ms, traces, strict=True))}
    return [known[each] for each in zip(keys, times_ms, traces, strict=True)]


def _time_ms(given: Any) -> int:
    return given if type(given) is int and 0 <= given <= LATEST_MS else 0


def _carried(key: str | None, time_ms: int, trace: str) -> Carried:
    return Carried(None if key is None else key.encode("latin-1"), time_ms, trace)


def _filled(items: Sequence[Item]) -> Iterator[list[Item]]:
    """The items in envelopes, in order."""
    held, size = list[Item](), 0
    for item in items:
        if held and size + len(item.payload) > FULL_BYTES:
            yield held
            held, size = [], 0
        held.append(item)
        size += len(item.payload)
    if held:
        yield held


@dataclass(slots=True)
class _Opened:
    """An envelope whose records are under way."""

    message: Message
    left: int


class Wrapped:
    """What both ends of a wrapped connector pass on."""

    def __init__(self, inner: Source | Sink) -> None:
        self._inner = inner
        self.endpoint = inner.endpoint
        self.listens = inner.listens

    @property
    def connected(self) -> bool:
        return self._inner.connected

    @property
    def error(self) -> str:
        return self._inner.error

    @property
    def failure(self) -> RuntimeFault | None:
        return self._inner.failure

    def open(self) -> None:
        self._inner.open()

    def close(self) -> None:
        self._inner.close()


class EnvelopeSource(Wrapped, Source):
    """Takes envelopes, brings records."""

    def __init__(self, inner: Source) -> None:
        super().__init__(inner)
        self._source = inner
        self._records: collections.deque[Message] = collections.deque()

    def bind(self) -> None:
        self._source.bind()

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        wait_s = 0.0 if self._records else timeout_s
        while len(self._records) < max_messages and (envelopes := self._source.take(1, wait_s)):
            self._open(envelopes[0])
            wait_s = 0.0
        return [self._records.popleft() for _ in range(min(max_messages, len(self._records)))]

    def ack(self, messages: Sequence[Message]) -> None:
        done = list[Message]()
        for message in messages:
            opened: _Opened = message.handle
            opened.left -= 1
            if opened.left == 0:
                done.append(opened.message)
        if done:
            self._source.ack(done)

    def stop_intake(self) -> None:
        self._records.clear()
        self._source.stop_intake()

    def leave(self) -> bool:
        return self._source.leave()

    def _open(self, envelope: Message) -> None:
        """What is no envelope is a record as it is: its stage will say what is wrong with it."""
        try:
            records = unpack(envelope.payload, envelope.carried.time_ms)
        except ValueError:
            records = [(envelope.id, envelope.payload, envelope.carried)]
        if not records:
            self._source.ack([envelope])
        if self._records and self._records[-1].connection != envelope.connection:
            self._records.clear()  # of an earlier connection: what was not taken comes again with its envelope
        opened = _Opened(envelope, len(records))
        number, again, arrived_at = envelope.connection, envelope.redelivered, envelope.arrived_at
        self._records.extend(
            [Message(payload, ident, number, again, opened, arrived_at, known) for ident, payload, known in records]
        )


class EnvelopeSink(Wrapped, Sink):
    """Takes records over, sends envelopes."""

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner)
        self._sink = inner

    def send(self, items: Sequence[Item]) -> Receipt:
        return self._sink.send([_enveloped(held) for held in _filled(items)])


def _enveloped(held: Sequence[Item]) -> Item:
    """The envelope has the id and the time of its first record; traces and keys have the records alone."""
    first = held[0]
    return Item(first.origin, first.id, pack(held), Carried(None, first.carried.time_ms))


class Enveloped:
    """Another connector, with envelopes on its queues."""

    def __init__(self, inner: Connector) -> None:
        self._inner = inner

    def source(self, endpoint: EndpointSpec, poller: Poller, window: int) -> Source:
        return EnvelopeSource(self._inner.source(endpoint, poller, min(window, WINDOW)))

    def sink(self, endpoint: EndpointSpec, poller: Poller) -> Sink:
        return EnvelopeSink(self._inner.sink(endpoint, poller))

    def check(self, endpoint: EndpointSpec) -> None:
        self._inner.check(endpoint)

    def release(self, endpoint: EndpointSpec, *, others: bool = False) -> int:
        return self._inner.release(endpoint, others=others)
