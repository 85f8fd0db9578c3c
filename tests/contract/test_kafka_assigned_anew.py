"""A reader whose partitions go and come back while it is held up: it goes on reading."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from fogline.runtimes.connectors import kafka as connector
from fogline.runtimes.connectors import kafka_source
from fogline.runtimes.connectors.kafka_confluent_reader import ConfluentReader
from fogline.runtimes.connectors.kafka_source import KafkaSource
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from support.kafka import Kafka
from support.segments import DEADLINE_S

pytestmark = pytest.mark.broker


def until(poller: Poller, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        poller.wait(0.05)


def test_partitions_that_come_back_after_a_pause_are_read(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "PAUSE_S", 0.2)
    topic, poller = uuid.uuid4().hex, Poller()
    options = {"server": "127.0.0.1", "port": kafka.port, "topic": topic, "client": "confluent"}
    source = connector.connector.source(EndpointSpec("q", "r", "kafka", options, f"{topic}.0", topic), poller, 10)
    assert isinstance(source, KafkaSource)
    source.open()
    source.bind()
    producer = Producer({"bootstrap.servers": kafka.server})
    for number in range(30):
        producer.produce(topic, b"%d" % number)
    assert producer.flush(DEADLINE_S) == 0
    until(poller, lambda: source._paused, "held up by its full window")
    held = source.take(10, 0.0)
    reader = source._reader
    assert isinstance(reader, ConfluentReader)
    assert reader._consumer is not None
    reader._consumer.unsubscribe()  # as when the broker has forgotten the member
    until(poller, lambda: not source._assigned, "its partition is gone")
    source.ack(held)
    until(poller, lambda: not source._paused, "its window has room")
    reader.subscribe()
    seen: set[bytes] = set()

    def all_came() -> bool:
        messages = source.take(10, 0.05)
        source.ack(messages)
        seen.update(message.payload for message in messages)
        return len(seen) == 30

    until(poller, all_came, f"everything again, {len(seen)} came")
    source.close()
    poller.close()
