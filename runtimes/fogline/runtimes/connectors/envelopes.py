"""Envelopes: what travels on an automatic queue, where one message carries many records.

A broker's price is per message, hardly per byte: 64 records in one message cost about as much as one. So between two
of our own stages the records of a batch go together, each exactly as it would be on a plain queue.

::

    "fogline envelope 1\\n"  length of the head, 4 bytes big-endian  head (JSON)  payload  payload ...
    head: {"ids": [id of each record], "sizes": [bytes of each payload]}; unknown keys are passed over

The envelope is what the broker delivers and acknowledges, the record what is run, counted and, when it fails, kept as
a dead letter. An envelope that is only half done when its connection is lost comes again whole.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import orjson

from fogline.runtimes.connectors.base import Connector, Receipt, Sink, Source
from fogline.runtimes.errors import RuntimeFault
from fogline.runtimes.message import Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

MARK = b"fogline envelope 1\n"
WINDOW = 8
"""Envelopes that a reader has unacknowledged at once: each may hold as much as the largest record."""
FULL_BYTES = 256 * 1024
"""Payload bytes after which an envelope is closed; a larger record has one of its own."""
_LENGTH_BYTES = 4


def pack(items: Sequence[Item]) -> bytes:
    """One envelope around these records."""
    head = orjson.dumps({"ids": [item.id for item in items], "sizes": [len(item.payload) for item in items]})
    return b"".join((MARK, len(head).to_bytes(_LENGTH_BYTES, "big"), head, *[item.payload for item in items]))


def unpack(payload: bytes) -> list[tuple[str, bytes]]:
    """Id and payload of each record. Raises ValueError for anything that is no envelope."""
    start = len(MARK) + _LENGTH_BYTES
    if not payload.startswith(MARK) or len(payload) < start:
        raise ValueError("no envelope")
    end = start + int.from_bytes(payload[len(MARK) : start], "big")
    head = orjson.loads(payload[start:end])
    try:
        ids, sizes = list(map(str, head["ids"])), list(map(int, head["sizes"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no head of an envelope: {error!r}") from None
    ends = list(accumulate(sizes, initial=end))
    if len(ids) != len(sizes) or min(sizes, default=0) < 0 or ends[-1] != len(payload):
        raise ValueError("an envelope whose sizes are not those of its records")
    return [(ident, payload[a:b]) for ident, a, b in zip(ids, ends, ends[1:], strict=False)]


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


class _Wrapped:
    """What both ends pass on."""

    def __init__(self, inner: Source | Sink) -> None:
        self._inner = inner
        self.endpoint = inner.endpoint

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


class EnvelopeSource(_Wrapped, Source):
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
            records = unpack(envelope.payload)
        except ValueError:
            records = [(envelope.id, envelope.payload)]
        if not records:
            self._source.ack([envelope])
        if self._records and self._records[-1].connection != envelope.connection:
            self._records.clear()  # of an earlier connection: what was not taken comes again with its envelope
        opened = _Opened(envelope, len(records))
        self._records.extend(
            Message(payload, ident, envelope.connection, envelope.redelivered, opened, envelope.arrived_at)
            for ident, payload in records
        )


class EnvelopeSink(_Wrapped, Sink):
    """Takes records over, sends envelopes."""

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner)
        self._sink = inner

    def send(self, items: Sequence[Item]) -> Receipt:
        return self._sink.send([Item(held[0].origin, held[0].id, pack(held)) for held in _filled(items)])


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
