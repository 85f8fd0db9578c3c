"""A foreign program that publishes numbered records at a steady pace and knows which were confirmed."""

from __future__ import annotations

import collections
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from support.results.wire import PUBACK, Gone, Wire, publish_packet, read_puback, topic_field

LIMIT = 1000
"""Unconfirmed records at most."""
TURN_S = 0.005
RECONNECT_S = 0.1
CONFIRM_S = 60.0
UNROUTED = 0x10
"""Confirmed, but nobody is subscribed."""


class Producer:
    """`with Producer(...) as producer:` publishes in a thread, QoS 1, in order of number.

    It connects again by itself, and publishes again what the broker has not confirmed: at least once. A record
    that the broker refused, or confirmed without anybody to give it to, is published again too. `rate` 0 means as
    fast as it goes.
    """

    def __init__(
        self,
        port: int,
        topic: str,
        make: Callable[[int], bytes],
        count: int,
        rate: float = 0.0,
        lasts: Callable[[], bool] = lambda: False,
    ) -> None:
        """`lasts`: while it holds the load goes on, beyond `count`."""
        self.enough = {0}
        """Reason codes that confirm a record."""
        self.count = count
        self.rate = rate
        self.lasts = lasts
        self.sent: set[int] = set()
        self.confirmed: set[int] = set()
        self.refused = 0
        """How often a record was not confirmed, for one of the two reasons."""
        self._port, self._topic, self._make = port, topic_field(topic), make
        self._open: dict[int, int] = {}
        """Packet id -> number, oldest first."""
        self._again: collections.deque[int] = collections.deque()
        self._next = self._mid = 0
        self._began = self._ended = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def __enter__(self) -> Producer:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def done(self) -> bool:
        """Every record is confirmed, and no more is to come."""
        return len(self.confirmed) >= max(self.count, self._next) and not self.lasts()

    @property
    def reached(self) -> float:
        """Confirmed records per second, over the whole load."""
        ended = self._ended or time.monotonic()
        return len(self.confirmed) / max(ended - self._began, 1e-9)

    def wait(self, seconds: float = CONFIRM_S) -> None:
        """Until every record is confirmed."""
        self._thread.join(seconds)
        assert self.done, f"{len(self.confirmed)} of {max(self.count, self._next)} records confirmed within {seconds} s"

    def _over(self) -> bool:
        return self.done or self._stop.is_set()

    def _run(self) -> None:
        while not self._over():
            try:
                self._converse(Wire(self._port))
            except Gone:
                self._again.extendleft(reversed(self._open.values()))
                self._open.clear()
                self._stop.wait(RECONNECT_S)
        self._ended = time.monotonic()

    def _converse(self, wire: Wire) -> None:
        try:
            while not self._over():
                wire.send(b"".join(self._due()))
                for kind, _, body in wire.packets(TURN_S):
                    if kind == PUBACK:
                        self._note(*read_puback(body))
        finally:
            wire.close()

    def _due(self) -> list[bytes]:
        """The packets that it is time for."""
        due = due_by(self._began, self.rate, sys.maxsize if self.lasts() else self.count)
        packets = []
        while len(self._open) < LIMIT and (self._again or self._next < due):
            if self._again:
                number = self._again.popleft()
            else:
                number, self._next = self._next, self._next + 1
                self.sent.add(number)
            self._mid = self._mid % 65535 + 1
            self._open[self._mid] = number
            packets.append(publish_packet(self._topic, self._mid, self._make(number)))
        return packets

    def _note(self, mid: int, reason: int) -> None:
        number = self._open.pop(mid)
        if reason in self.enough:
            self.confirmed.add(number)
        else:
            self.refused += 1
            self._again.append(number)


def due_by(began: float, rate: float, limit: int) -> int:
    """How many records should be sent by now, at this pace since then."""
    return min(limit, int((time.monotonic() - began) * rate) + 1) if rate else limit


def publish(port: int, topic: str, payloads: Sequence[bytes]) -> None:
    """Publish every payload, in order, and return when all are confirmed, be anybody subscribed or not."""
    producer = Producer(port, topic, payloads.__getitem__, len(payloads))
    producer.enough = {0, UNROUTED}
    with producer:
        producer.wait()
