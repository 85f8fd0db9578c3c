"""Exactly once from Kafka to Kafka: outputs and offsets of a segment become visible together (KIP-98, KIP-447).

::

    idle --first output or acknowledgement--> open --5000 records or 0.1 s--> closing --all acknowledged--> idle
                         (not before it was open ten times as long as the last one took to close)
                                                any error --> aborted: the process ends and is started again

While it closes the sinks take nothing more, so that what is open are the outputs of batches that are sent whole; once
all of those are acknowledged, their offsets and they are committed in one. A transaction that must be aborted takes
the process with it: what was read for it has to be read again, and nothing in memory knows how to.

One transaction for all ends of a segment. Its id is stable, so that a successor ends what a killed process left
open, and fences one that is still there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from fogline.runtimes.connectors.base import Receipt
from fogline.runtimes.connectors.kafka_client import MAX_MESSAGE_BYTES, Delivery, Place, Wish
from fogline.runtimes.connectors.kafka_confluent import produce
from fogline.runtimes.connectors.kafka_confluent_reader import ConfluentReader
from fogline.runtimes.connectors.kafka_handle import Handle, said
from fogline.runtimes.connectors.kafka_sink import KafkaSink, OpenRecord
from fogline.runtimes.connectors.kafka_source import KafkaSource
from fogline.runtimes.errors import BackOff, NotConnected, RuntimeFault, StartAgain, Superseded
from fogline.runtimes.message import Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import SUPERSEDED, EndpointSpec

MOST_RECORDS = 5000
LONGEST_S = 0.1
OPEN_TO_CLOSING = 10
"""While it closes nothing is sent: that is to be at most a tenth of the time, also at a broker that is busy."""
LONGEST_AT_ALL_S = 1.0
BACK_OFF_S = 0.001
_CALL_TIMEOUT_S = 5.0
_INIT_TIMEOUT_S = 20.0
_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}


class Reading(Protocol):
    """A source that takes part."""

    @property
    def topic(self) -> str: ...

    def to_commit(self) -> dict[int, Place]:
        """Partition -> what is done; what is handed out is not handed out again."""
        ...

    def group(self) -> Any:
        """The membership that stands for it."""
        ...


class Transaction(Handle):
    """Shared by the ends of one segment; used under the poller's lock."""

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish)
        self.failure: RuntimeFault | None = None
        self.producer: Producer | None = None
        self.closing = False
        self._began_at = 0.0
        self._closing_since = 0.0
        self._took_s = 0.0
        """To close the last one."""
        self._records = 0
        self._receipts: list[Receipt] = []
        self._done: list[tuple[Reading, dict[int, Place]]] = []
        """Every source, and what is to be committed of it."""

    def join(self, source: Reading) -> None:
        """Before anything else."""
        self._done.append((source, {}))

    def open(self) -> None:
        """End what a predecessor left open. Raises NotConnected."""
        if self.producer is not None:
            return
        producer = Producer(
            {
                **self.settings(),
                "transactional.id": self.wish.client_id,
                "linger.ms": 1,
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "partitioner": "murmur2_random",
            }
        )
        try:
            producer.init_transactions(_INIT_TIMEOUT_S)
        except KafkaException as error:
            producer.poll(0)
            raise NotConnected(f"kafka {self.wish.server}: {self.down or said(error.args[0])}") from None
        self.producer = producer

    def begin(self) -> None:
        """Unless it is open."""
        if not self._began_at and self.producer is not None:
            self.producer.begin_transaction()
            self._began_at = time.monotonic()

    def sent(self, receipt: Receipt) -> None:
        """A sink has taken something over."""
        self._records += receipt.owed
        self._receipts.append(receipt)

    def turn(self) -> None:
        """Close it when it is time, commit it when all is acknowledged. In the pump's thread, between batches."""
        if self.failure is not None or self.producer is None:
            return
        self._collect()
        if not self._began_at:
            return
        if not self.closing and self._is_due():
            self.closing = True
            self._closing_since = time.monotonic()
        if self.closing and all(receipt.settled for receipt in self._receipts):
            self._commit()

    def fail(self, error: KafkaError) -> None:
        """It cannot be committed any more."""
        words = f"kafka {self.wish.server}: the transaction was aborted: {said(error)}"
        if error.code() in _FENCED:
            self.failure = Superseded(f"{SUPERSEDED}: another process writes as {self.wish.client_id}; {words}")
        else:
            self.failure = StartAgain(words)

    def give_up(self, reason: str) -> None:
        """What was read for it belongs to somebody else now."""
        if self._began_at and self.failure is None:
            self.failure = StartAgain(f"kafka {self.wish.server}: the transaction was aborted: {reason}")

    def close(self) -> None:
        """What is open is aborted: what it was made of comes again."""
        producer, self.producer = self.producer, None
        if producer is not None and self._began_at:
            try:
                producer.abort_transaction(1.0)
            except KafkaException:
                return  # the broker does, when a successor comes or the time is up

    def _is_due(self) -> bool:
        age_s = time.monotonic() - self._began_at
        worth_it = age_s >= min(OPEN_TO_CLOSING * self._took_s, LONGEST_AT_ALL_S)
        return worth_it and (self._records >= MOST_RECORDS or age_s >= LONGEST_S)

    def _collect(self) -> None:
        for source, done in self._done:
            done.update(source.to_commit())
            if done:
                self.begin()

    def _commit(self) -> None:
        producer = self.producer
        assert producer is not None
        try:
            for source, done in self._done:
                if done:
                    producer.send_offsets_to_transaction(_offsets(source.topic, done), source.group(), _CALL_TIMEOUT_S)
            producer.commit_transaction(_CALL_TIMEOUT_S)
        except KafkaException as raised:
            error = raised.args[0]
            if not error.retriable():  # else all of it again in the next turn
                self.fail(error)
            return
        for _, done in self._done:
            done.clear()
        self._receipts.clear()
        self._took_s = time.monotonic() - self._closing_since if self._closing_since else 0.0
        self._closing_since = 0.0
        self._records, self._began_at, self.closing = 0, 0.0, False


def _offsets(topic: str, done: dict[int, Place]) -> list[TopicPartition]:
    return [TopicPartition(topic, each, place.offset, place.metadata) for each, place in done.items()]


class TransactionWriter(Handle):
    """A writer inside the transaction: the library's producer is that of all sinks."""

    def __init__(self, wish: Wish, transaction: Transaction) -> None:
        super().__init__(wish)
        self._transaction = transaction

    @property
    def error(self) -> str:
        words = self._transaction.down
        return f"kafka {self.wish.server}: {words}" if words else ""

    def open(self) -> None:
        self._transaction.open()
        self.find_topic(self._producer, self.serve, create=True)

    def send(self, waiting: deque[Delivery]) -> None:
        produce(self._producer, self.wish.topic, waiting)

    def serve(self) -> None:
        self._producer.poll(0)

    def close(self, _timeout_s: float) -> None:
        self._transaction.close()

    @property
    def _producer(self) -> Producer:
        assert self._transaction.producer is not None
        return self._transaction.producer


class TransactionSink(KafkaSink):
    """Takes nothing while the transaction closes; a record that fails fails the transaction."""

    def __init__(self, endpoint: EndpointSpec, poller: Poller, wish: Wish, transaction: Transaction) -> None:
        super().__init__(endpoint, poller, wish, lambda wish: TransactionWriter(wish, transaction))
        self._transaction = transaction

    @property
    def failure(self) -> RuntimeFault | None:
        return self._transaction.failure

    def send(self, items: Sequence[Item]) -> Receipt:
        with self._poller.lock:
            if self._transaction.closing:
                raise BackOff(BACK_OFF_S)
            self._transaction.begin()
            receipt = super().send(items)
            self._transaction.sent(receipt)
            return receipt

    def on_failed(self, record: OpenRecord, error: Any) -> None:
        self._transaction.fail(error)


class TransactionSource(KafkaSource):
    """Its offsets are committed by the transaction alone."""

    def __init__(
        self, endpoint: EndpointSpec, poller: Poller, window: int, wish: Wish, transaction: Transaction
    ) -> None:
        super().__init__(endpoint, poller, window, wish, ConfluentReader)
        self.topic = wish.topic
        self._transaction = transaction
        transaction.join(self)

    @property
    def failure(self) -> RuntimeFault | None:
        return self._fenced or self._transaction.failure

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        with self._poller.lock:
            self._transaction.turn()
        return super().take(max_messages, timeout_s)

    def ack(self, messages: Sequence[Message]) -> None:
        with self._poller.lock:
            super().ack(messages)
            self._transaction.turn()

    def on_revoked(self, partitions: Sequence[int]) -> None:
        self.on_lost(partitions)

    def on_lost(self, partitions: Sequence[int]) -> None:
        self._transaction.give_up(f"partitions {', '.join(map(str, partitions))} went to another reader")
        super().on_lost(partitions)

    def to_commit(self) -> dict[int, Place]:
        return self._places(tuple(self._done))

    def group(self) -> Any:
        assert isinstance(self._reader, ConfluentReader)
        return self._reader.membership()

    def _commit_when_due(self, now: float, *, fetched: bool) -> None:
        """Not here."""

    def _commit_at_the_end(self) -> None:
        self._transaction.closing = True
        self._transaction.turn()
