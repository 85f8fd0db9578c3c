"""Exactly once from Kafka to Kafka, on a real broker."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Consumer, TopicPartition

from fogline.runtimes.connectors import kafka as connector
from fogline.runtimes.connectors.base import Receipt
from fogline.runtimes.errors import BackOff, StartAgain, Superseded
from fogline.runtimes.message import Item
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from support.kafka import Kafka
from support.kafka_bench import Bench, numbers
from support.segments import DEADLINE_S

pytestmark = pytest.mark.broker


class Exact:
    """Both ends of one segment that asks for exactly once, on a poller of their own, as in a process."""

    def __init__(self, server: Kafka, reads: str, writes: str) -> None:
        self.poller = Poller()
        place = {"server": "127.0.0.1", "port": server.port}
        name = f"x.{reads}"
        reader = EndpointSpec("in", "s", "kafka", place | {"topic": reads}, f"{name}.0", name, exactly_once=True)
        writer = EndpointSpec("out", "s", "kafka", place | {"topic": writes}, f"{name}.0.w", exactly_once=True)
        self.source = connector.connector.source(reader, self.poller, 1000)
        self.sink = connector.connector.sink(writer, self.poller)
        self.sink.open()
        self.source.open()
        self.source.bind()

    def relay(self, count: int, *, ack: bool = True) -> list[bytes]:
        """Take so many, send them on, and acknowledge them when that is confirmed, as the pump does."""
        deadline, done = time.monotonic() + DEADLINE_S, list[bytes]()
        while len(done) < count and time.monotonic() < deadline:
            messages = self.source.take(count - len(done), 0.1)
            if messages:
                receipt = self._send([Item(0, message.id, message.payload) for message in messages])
                while not receipt.done and time.monotonic() < deadline:
                    self.poller.wait(0.05)
                if ack:
                    receipt.settled = True
                    self.source.ack(messages)
                done += [message.payload for message in messages]
        return done

    def _send(self, items: list[Item]) -> Receipt:
        while True:
            try:
                return self.sink.send(items)
            except BackOff as signal:
                self.poller.wait(signal.seconds)
                self.source.take(0, 0.0)

    def settle(self) -> None:
        """What an idle pump does until the transaction is committed."""
        deadline = time.monotonic() + DEADLINE_S
        while self.source._transaction._began_at and time.monotonic() < deadline:  # type: ignore[attr-defined]
            self.source.take(0, 0.05)

    def close(self) -> None:
        self.source.close()
        self.sink.close()
        self.poller.close()


def committed(server: Kafka, topic: str, count: int) -> list[bytes]:
    """What a reader of committed records finds, once so many are there and then nothing for a while."""
    settings = {"bootstrap.servers": server.server, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed"}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        messages = consumer.consume(1000, 0.5)
        found += [message.value() or b"" for message in messages]
        if len(found) >= count and not messages:
            break
    consumer.close()
    return found


def test_outputs_are_seen_once_their_offsets_are_committed_with_them(kafka: Kafka) -> None:
    bench = Bench(kafka, "confluent")
    bench.make(1)
    bench.publish(numbers(0, 50))
    first = Exact(kafka, bench.topic, f"{bench.topic}.out")
    assert first.relay(20) == numbers(0, 20)
    first.settle()
    assert first.relay(10, ack=False) == numbers(20, 30)
    first.close()  # what is not acknowledged is aborted
    second = Exact(kafka, bench.topic, f"{bench.topic}.out")
    assert second.relay(30) == numbers(20, 50)
    second.settle()
    assert committed(kafka, f"{bench.topic}.out", 50) == numbers(0, 50)
    second.close()
    bench.close()


def test_a_process_whose_place_was_taken_can_commit_nothing(kafka: Kafka) -> None:
    bench = Bench(kafka, "confluent")
    bench.make(1)
    bench.publish(numbers(0, 20))
    first = Exact(kafka, bench.topic, f"{bench.topic}.out")
    assert first.relay(10, ack=False) == numbers(0, 10)
    second = Exact(kafka, bench.topic, f"{bench.topic}.out")
    assert second.relay(20) == numbers(0, 20)
    second.settle()
    deadline = time.monotonic() + DEADLINE_S
    while first.source.failure is None and time.monotonic() < deadline:
        first.source.take(0, 0.05)
        first.sink._transaction._receipts[0].settled = True  # type: ignore[attr-defined]
    assert isinstance(first.source.failure, (Superseded, StartAgain))
    assert committed(kafka, f"{bench.topic}.out", 20) == numbers(0, 20)
    first.close()
    second.close()
    bench.close()
