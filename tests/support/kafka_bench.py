"""A topic of one's own at a running Kafka, with both ends of it and foreign programs beside them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fogline.runtimes.connectors import kafka as connector
from fogline.runtimes.connectors.base import Receipt
from fogline.runtimes.connectors.kafka_sink import KafkaSink
from fogline.runtimes.connectors.kafka_source import KafkaSource
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from support.kafka import Kafka
from support.segments import DEADLINE_S


class Bench:
    """A topic of one's own at the server of the run, and both ends of it."""

    def __init__(self, server: Kafka, client: str) -> None:
        self.server = server
        self.client = client
        self.topic = uuid.uuid4().hex
        self.poller = Poller()
        self.made: list[Any] = []

    def make(self, partitions: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.server.server})
        admin.create_topics([NewTopic(self.topic, partitions, 1)])[self.topic].result(DEADLINE_S)

    def source(self, replica: int = 0, window: int = 1000, **options: Any) -> KafkaSource:
        end = EndpointSpec("q", "reader", "kafka", self._options(options), f"{self._group}.{replica}", self._group)
        made = connector.connector.source(end, self.poller, window)
        assert isinstance(made, KafkaSource)
        self.made.append(made)
        return made

    def reading(self, replica: int = 0, window: int = 1000, **options: Any) -> KafkaSource:
        source = self.source(replica, window, **options)
        source.open()
        source.bind()
        return source

    def sink(self, **options: Any) -> KafkaSink:
        made = connector.connector.sink(EndpointSpec("q", "w", "kafka", self._options(options), "w"), self.poller)
        assert isinstance(made, KafkaSink)
        self.made.append(made)
        return made

    def writing(self, **options: Any) -> KafkaSink:
        sink = self.sink(**options)
        sink.open()
        return sink

    def release(self) -> int:
        end = EndpointSpec("q", "reader", "kafka", self._options({}), f"{self._group}.0", self._group)
        return connector.connector.release(end)

    def publish(self, payloads: Sequence[bytes], **more: Any) -> None:
        producer = Producer({"bootstrap.servers": self.server.server, "linger.ms": 0})
        for number, payload in enumerate(payloads):
            producer.produce(self.topic, payload, **({"key": b"%d" % number} | more))
        assert producer.flush(DEADLINE_S) == 0

    def read(self, count: int) -> list[Message]:
        """What a foreign consumer finds in partition 0."""
        settings = {"bootstrap.servers": self.server.server, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
        consumer = Consumer(settings)
        consumer.assign([TopicPartition(self.topic, 0, 0)])
        found: list[Message] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(found) < count and time.monotonic() < deadline:
            found += consumer.consume(count - len(found), 0.2)
        consumer.close()
        return found

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, what
            self.poller.wait(0.05)

    def confirmed(self, receipt: Receipt) -> None:
        self.until(lambda: receipt.done, "confirmed")

    def close(self) -> None:
        for each in self.made:
            each.close()
        self.poller.close()

    @property
    def _group(self) -> str:
        return f"g.{self.topic}"

    def _options(self, more: dict[str, Any]) -> dict[str, Any]:
        place = {"server": "127.0.0.1", "port": self.server.port, "topic": self.topic}
        return place | {"client": self.client} | more


def numbers(start: int, stop: int) -> list[bytes]:
    """Payloads."""
    return [b"%d" % number for number in range(start, stop)]
