"""Kafka through confluent-kafka (librdkafka), whose threads are outside the interpreter: 3-4 us a record."""

from __future__ import annotations

from collections import deque
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from fogline.runtimes.connectors.kafka_client import (
    MAX_MESSAGE_BYTES,
    Delivery,
    Reader,
    ReaderUser,
    Wish,
    Writer,
    headers_of,
)
from fogline.runtimes.connectors.kafka_confluent_reader import ConfluentReader
from fogline.runtimes.connectors.kafka_handle import Handle


def produce(producer: Producer, topic: str, waiting: deque[Delivery]) -> None:
    """`Writer.send`, with the library's producer."""
    begin = producer.produce
    while waiting:
        record = waiting[0]
        item = record.item
        try:
            begin(topic, item.payload, item.carried.key, headers=headers_of(item), on_delivery=record)
        except BufferError:
            return
        except KafkaException as error:
            if error.args[0].code() != KafkaError._QUEUE_FULL:
                waiting.popleft()
                record(error.args[0], None)
            return
        waiting.popleft()


class ConfluentWriter(Handle):
    def __init__(self, wish: Wish) -> None:
        super().__init__(wish)
        self._producer: Producer | None = None

    @property
    def error(self) -> str:
        words = self.down or self.fatal
        return f"kafka {self.wish.server}: {words}" if words else ""

    def open(self) -> None:
        if self._producer is None:
            self._producer = Producer(self._settings())
        self.find_topic(self._producer, self.serve, create=True)

    def send(self, waiting: deque[Delivery]) -> None:
        assert self._producer is not None
        produce(self._producer, self.wish.topic, waiting)

    def serve(self) -> None:
        assert self._producer is not None
        self._producer.poll(0)

    def close(self, timeout_s: float) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.flush(timeout_s)
            producer.purge()
            producer.poll(0)

    def _settings(self) -> dict[str, Any]:
        return {
            **self.settings(),
            "enable.idempotence": True,
            "linger.ms": 1,
            "message.timeout.ms": 0,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "partitioner": "murmur2_random",
        }


class Confluent:
    """The library, as the connector knows it."""

    def reader(self, wish: Wish, user: ReaderUser) -> Reader:
        return ConfluentReader(wish, user)

    def writer(self, wish: Wish) -> Writer:
        return ConfluentWriter(wish)

    def visit(self, wish: Wish) -> None:
        handle = Handle(wish)
        admin = AdminClient({**handle.settings(), "statistics.interval.ms": 0})
        handle.find_topic(admin, lambda: admin.poll(0), create=False)


client = Confluent()
