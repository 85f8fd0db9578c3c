"""A queue in this process: the connector contract without a broker, for tests of everything above it.

It is honest about the contract's hard parts: unacknowledged messages come again after `lose_connection`,
confirmations can be held back, and a bounded queue makes its writer back off.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Sequence

from fogline.runtimes.connectors.base import Receipt, Sink, Source
from fogline.runtimes.errors import BackOff, EndOfInput, Superseded
from fogline.runtimes.message import NOTHING, About, Carried, Item, Message, content_id, just_read
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

BACK_OFF_S = 0.01
_NO_TOPIC = About("", ())


class MemoryQueue:
    """What a broker keeps: waiting payloads, and those that are out and not acknowledged."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.waiting: collections.deque[tuple[int, bytes, Carried, About]] = collections.deque()
        self.unacknowledged: dict[int, tuple[bytes, Carried, About]] = {}
        self.seen: set[int] = set()
        self.finished = False
        self._numbers = itertools.count(1)

    def put(self, payload: bytes, carried: Carried = NOTHING, about: About = _NO_TOPIC) -> None:
        self.waiting.append((next(self._numbers), payload, carried, about))

    def give_back(self) -> None:
        """Everything unacknowledged waits again, in its old place."""
        out = sorted(self.unacknowledged.items(), reverse=True)
        self.waiting.extendleft((number, *kept) for number, kept in out)
        self.unacknowledged.clear()

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _, _ in self.waiting]


class MemorySource(Source):
    connected = False
    error = ""
    failure: Superseded | None = None

    def __init__(self, endpoint: EndpointSpec, poller: Poller, window: int, queue: MemoryQueue) -> None:
        self.endpoint = endpoint
        self.queue = queue
        self._poller = poller
        self._window = window
        self._connection = 0
        self._bound = False
        self._stopped = False

    def open(self) -> None:
        self.connected = True
        self._connection += 1

    def bind(self) -> None:
        self._bound = True

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        if not self._bound or self._stopped:
            return []
        if not self.queue.waiting:
            self._poller.wait(timeout_s)
        room = self._window - len(self.queue.unacknowledged)
        count = min(max_messages, room, len(self.queue.waiting))
        if self.queue.finished and not self.queue.waiting:
            raise EndOfInput
        return [self._next() for _ in range(count)]

    def ack(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.connection == self._connection:
                del self.queue.unacknowledged[message.handle]

    def stop_intake(self) -> None:
        self._stopped = True

    def lose_connection(self) -> None:
        """What a broker does when a reader vanishes and comes back."""
        self.queue.give_back()
        self._connection += 1

    def close(self) -> None:
        self.connected = False
        self.queue.give_back()

    def _next(self) -> Message:
        number, payload, carried, about = self.queue.waiting.popleft()
        self.queue.unacknowledged[number] = payload, carried, about
        redelivered = number in self.queue.seen
        self.queue.seen.add(number)
        ident = content_id(self.endpoint.queue, payload)
        known = carried if carried.time_ms else carried._replace(time_ms=just_read().time_ms)
        told = about if "metadata" in self.endpoint.options else None
        return Message(payload, ident, self._connection, redelivered, number, time.monotonic(), known, told)


class MemorySink(Sink):
    """Confirms at once, or when told: `hold = True`, later `confirm()`."""

    connected = False
    error = ""
    failure: Superseded | None = None

    def __init__(self, endpoint: EndpointSpec, poller: Poller, queue: MemoryQueue) -> None:
        self.endpoint = endpoint
        self.queue = queue
        self.hold = False
        self.ids: list[str] = []
        self._poller = poller
        self._owed: list[Receipt] = []

    def open(self) -> None:
        self.connected = True

    def send(self, items: Sequence[Item]) -> Receipt:
        if self.queue.limit is not None and len(self.queue.waiting) >= self.queue.limit:
            raise BackOff(BACK_OFF_S)
        for item in items:
            self.queue.put(item.payload, item.carried)
            self.ids.append(item.id)
        receipt = Receipt(len(items))
        self._owed.append(receipt)
        if not self.hold:
            self.confirm()
        return receipt

    def confirm(self) -> None:
        """Confirm everything sent so far and end the present wait."""
        for receipt in self._owed:
            receipt.left = 0
        self._owed.clear()
        self._poller.wake()

    def close(self) -> None:
        self.connected = False
