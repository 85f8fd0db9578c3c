"""Topics of numbered records: made and filled beforehand, waited for, and read when a program is through.

Nothing reads while a program under test runs. The broker notes when it appended each record
(`message.timestamp.type=LogAppendTime`), and that is where a rate comes from.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.models import Models

DEADLINE_S = 180.0
LOOK_S = 0.05
CALL_S = 10.0


class Records:
    """Numbered JSON records of about 200 bytes; the model's rows are used again and again."""

    def __init__(self, models: Models, count: int) -> None:
        self.count = count
        self._rests = [payload.split(b",", 1)[1] for payload in models.payloads]
        self._expected = models.expected

    def payloads(self) -> Iterable[bytes]:
        """All of them, in order of their numbers."""
        rests = self._rests
        for n in range(self.count):
            yield b'{"n":%d,"site":"plant %d, cell %d, camera A",%s' % (n, n % 7, n % 100, rests[n % len(rests)])

    def expected(self, number: int) -> dict[str, Any]:
        """Features and answer of a record."""
        return self._expected[number % len(self._expected)]

    def is_judged(self, payload: bytes) -> bool:
        """Whether it is one of these records with the model's answer."""
        record = orjson.loads(payload)
        wanted = self.expected(record["n"])
        return all(record[key] == wanted[key] for key in ("features", "score"))


@dataclass(frozen=True)
class Arrival:
    """A record that a program wrote."""

    appended_ms: int
    payload: bytes


@dataclass(frozen=True)
class Topic:
    """One at a broker."""

    server: str
    name: str
    partitions: int


def make_topic(server: str, partitions: int = 1) -> Topic:
    """A new one, in which the broker notes when it appended a record."""
    topic = Topic(server, f"bench-{uuid.uuid4().hex[:8]}", partitions)
    wanted = NewTopic(topic.name, partitions, 1, config={"message.timestamp.type": "LogAppendTime"})
    admin = AdminClient({"bootstrap.servers": server, "log_level": 0})
    admin.create_topics([wanted])[topic.name].result(CALL_S)
    return topic


def fill(topic: Topic, payloads: Iterable[bytes]) -> None:
    """Append them, to each partition in turn; returns when the broker has them all."""
    _produce(Producer(_settings(topic)), topic, payloads)


def fill_hidden(topic: Topic, payloads: Iterable[bytes]) -> Callable[[], None]:
    """The same inside a transaction: nobody sees anything before the returned function is called."""
    producer = Producer({**_settings(topic), "transactional.id": topic.name})
    producer.init_transactions(CALL_S)
    producer.begin_transaction()
    _produce(producer, topic, payloads)
    return lambda: producer.commit_transaction(CALL_S)


def _settings(topic: Topic) -> dict[str, Any]:
    return {"bootstrap.servers": topic.server, "linger.ms": 20, "log_level": 0}


def _produce(producer: Producer, topic: Topic, payloads: Iterable[bytes]) -> None:
    for number, payload in enumerate(payloads):
        while True:
            try:
                producer.produce(topic.name, payload, partition=number % topic.partitions)
                break
            except BufferError:
                producer.poll(0.1)
    if left := producer.flush(DEADLINE_S):
        raise TimeoutError(f"{left} records were not confirmed within {DEADLINE_S:g} s")


def arrivals(topic: Topic, count: int, alive: Callable[[], None] = lambda: None) -> list[Arrival]:
    """Everything in a topic once records of `count` different numbers are there, in order of time.

    `alive` is asked while it waits, and raises when nothing can be expected any more.
    """
    settings = {"bootstrap.servers": topic.server, "group.id": topic.name, "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer(settings | {"isolation.level": "read_committed"})
    try:
        places = [TopicPartition(topic.name, number, 0) for number in range(topic.partitions)]
        _wait(consumer, places, count, alive)
        consumer.assign(places)
        return sorted(_read(consumer, count, alive), key=lambda each: each.appended_ms)
    finally:
        consumer.close()


def _wait(consumer: Consumer, places: Sequence[TopicPartition], count: int, alive: Callable[[], None]) -> None:
    """Until as many records lie there: the marks are looked at, which costs the broker next to nothing."""
    deadline = time.monotonic() + DEADLINE_S
    while sum(consumer.get_watermark_offsets(each, CALL_S, cached=False)[1] for each in places) < count:
        alive()
        if time.monotonic() > deadline:
            break  # reading tells how many there are
        time.sleep(LOOK_S)


def _read(consumer: Consumer, count: int, alive: Callable[[], None]) -> list[Arrival]:
    found: list[Arrival] = []
    numbers: set[int] = set()
    deadline = time.monotonic() + DEADLINE_S
    while len(numbers) < count:
        for message in consumer.consume(5000, 0.2):
            payload = message.value() or b""
            found.append(Arrival(message.timestamp()[1], payload))
            numbers.add(orjson.loads(payload)["n"])
        alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(numbers)} of {count} records came within {DEADLINE_S:g} s")
    return found


def rate_of(found: Sequence[Arrival], count: int) -> float:
    """Records a second of the first `count`, without the first fifth."""
    first = count // 5
    return (count - first) * 1000 / max(found[count - 1].appended_ms - found[first - 1].appended_ms, 1)


def compare(found: Sequence[Arrival], records: Records, count: int) -> None:
    """Raises ValueError unless the numbers are all those from 0 on, and the contents what they must be."""
    numbers = {orjson.loads(each.payload)["n"] for each in found}
    lost = set(range(max(count, len(numbers)))) - numbers
    if lost:
        raise ValueError(f"{len(lost)} of {len(numbers)} records were lost, the first: {min(lost)}")
    wrong = [each.payload for each in found if not records.is_judged(each.payload)]
    if wrong:
        raise ValueError(f"{len(wrong)} records are wrong, the first: {wrong[0]!r}")
