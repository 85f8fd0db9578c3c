"""The writing end of a Kafka queue: an idempotent producer that is never given up.

::

    record   waiting --produced--> unconfirmed --acks=all--> confirmed
                ^------ held, then again, the oldest first ------' failed

The library itself tries again for ever what may succeed. What it reports as failed (a topic that was deleted, a right
that was taken away) is held for 0.2 s up to 5 s and sent again; after a fatal error with a new producer.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Sequence
from typing import Any

from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.base import Receipt, Sink
from fogline.runtimes.connectors.kafka_client import Delivery, Wish, Writer
from fogline.runtimes.connectors.turns import Turns
from fogline.runtimes.errors import NotConnected, RuntimeFault
from fogline.runtimes.message import Item
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

log = logging.getLogger("fogline.kafka")

CLOSE_TIMEOUT_S = 1.0


class OpenRecord:
    """A record on its way to the broker; called by the client when its fate is known."""

    __slots__ = ("item", "number", "receipt", "sink")

    def __init__(self, number: int, item: Item, receipt: Receipt, sink: KafkaSink) -> None:
        self.number = number
        self.item = item
        self.receipt = receipt
        self.sink = sink

    def __call__(self, error: Any, _message: Any) -> None:
        if error is None:
            self.receipt.left -= 1
            self.sink.unconfirmed -= 1
        else:
            self.sink.on_failed(self, error)


class KafkaSink(Sink):
    def __init__(
        self, endpoint: EndpointSpec, poller: Poller, wish: Wish, make_writer: Callable[[Wish], Writer]
    ) -> None:
        self.endpoint = endpoint
        self.unconfirmed = 0
        self._poller = poller
        self._wish = wish
        self._make_writer = make_writer
        self._writer = make_writer(wish)
        self._turns = Turns(poller, self._turn)
        self._waiting: collections.deque[Delivery] = collections.deque()
        self._failed: list[OpenRecord] = []
        self._held = False
        self._refused = ""
        self._delays = Delays()
        self._number = 0

    @property
    def failure(self) -> RuntimeFault | None:
        return None

    @property
    def connected(self) -> bool:
        return self._turns.running and not self._writer.error

    @property
    def error(self) -> str:
        return self._writer.error or self._refused

    def open(self) -> None:
        with self._poller.lock:
            self._writer.open()
            self._turns.start()

    def send(self, items: Sequence[Item]) -> Receipt:
        with self._poller.lock:
            receipt = Receipt(len(items))
            for number, item in enumerate(items, self._number):
                self._waiting.append(OpenRecord(number, item, receipt, self))
            self._number += len(items)
            self._produce()
            self._writer.serve()
            self._turns.hurry()
        return receipt

    def close(self) -> None:
        with self._poller.lock:
            self._turns.stop()
            self._held = True
            self._writer.close(CLOSE_TIMEOUT_S)

    def on_failed(self, record: OpenRecord, error: Any) -> None:
        """From a record: hold everything, and send this one again."""
        self.unconfirmed -= 1
        self._failed.append(record)
        self._hold(f"writing to {self._wish.topic} failed: {error}")

    def _turn(self) -> bool:
        """Whether something may be expected soon."""
        before = self.unconfirmed
        self._writer.serve()
        if self._writer.fatal:
            self._hold(self._writer.fatal)
        elif self.unconfirmed < before and not self._held:
            self._refused = ""
            self._delays.reset()
        self._produce()
        return self.unconfirmed > 0

    def _produce(self) -> None:
        if self._waiting and not self._held:
            before = len(self._waiting)
            self._writer.send(self._waiting)
            self.unconfirmed += before - len(self._waiting)

    def _hold(self, words: str) -> None:
        self._refused = f"kafka {self._wish.server}: {words}"
        if not self._held:
            log.warning("%s; trying again", self._refused)
            self._held = True
            self._poller.call_later(self._delays.next_s(), self._release)

    def _release(self) -> None:
        if not self._turns.running:
            return
        if self._writer.fatal:
            self._writer.close(0.0)  # reports all that is open as failed
            self._writer = self._make_writer(self._wish)
            try:
                self._writer.open()
            except NotConnected as error:
                self._refused = error.reason
                self._poller.call_later(self._delays.next_s(), self._release)
                return
        self._held = False
        oldest_last = sorted(self._failed, key=lambda record: record.number, reverse=True)
        self._waiting.extendleft(oldest_last)
        self._failed.clear()
        self._produce()
