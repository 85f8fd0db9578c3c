"""What Kafka alone has: keys, groups, offsets, topics; over both libraries, on a real broker."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fogline.runtimes.connectors import kafka as connector
from fogline.runtimes.connectors import kafka_source
from fogline.runtimes.connectors.base import Receipt
from fogline.runtimes.connectors.kafka_sink import KafkaSink
from fogline.runtimes.connectors.kafka_source import KafkaSource
from fogline.runtimes.errors import BackOff, NotConnected, StartAgain, Superseded
from fogline.runtimes.message import Carried, Item
from fogline.runtimes.message import Message as Taken
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from support.kafka import Kafka
from support.mosquitto import free_port
from support.segments import DEADLINE_S

pytestmark = pytest.mark.broker

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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


@pytest.fixture(params=["confluent", "python"])
def bench(request: pytest.FixtureRequest, kafka: Kafka) -> Iterator[Bench]:
    made = Bench(kafka, request.param)
    yield made
    made.close()


def taken(*sources: KafkaSource, count: int, ack: bool = True) -> list[Taken]:
    """What they bring, in turn, acknowledged at once."""
    found: list[Taken] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < count and time.monotonic() < deadline:
        for source in sources:
            messages = source.take(100, 0.02)
            if ack:
                source.ack(messages)
            found += messages
    return found


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


def test_key_time_and_trace_come_with_a_record(bench: Bench) -> None:
    bench.make(1)
    bench.publish([b"1"], key=b"oven", timestamp=1_700_000_000_123, headers={"traceparent": TRACE})
    (message,) = taken(bench.reading(), count=1)
    assert message.carried == Carried(b"oven", 1_700_000_000_123, TRACE)
    assert message.id == f"{bench.topic}/0/0"


def test_key_id_time_and_trace_go_with_a_record(bench: Bench) -> None:
    bench.confirmed(bench.writing().send([Item(0, "an-id", b"1", Carried(b"oven", 1_700_000_000_123, TRACE))]))
    (message,) = bench.read(1)
    assert (message.key(), message.value()) == (b"oven", b"1")
    expected = [("fogline-id", b"an-id"), ("fogline-time", b"1700000000123"), ("traceparent", TRACE.encode())]
    assert message.headers() == expected
    (again,) = taken(bench.reading(), count=1)
    assert (again.id, again.carried) == ("an-id", Carried(b"oven", 1_700_000_000_123, TRACE))


def test_a_topic_that_is_absent_is_made_as_asked(bench: Bench) -> None:
    sink = bench.writing(partitions=3)
    admin = AdminClient({"bootstrap.servers": bench.server.server})
    assert len(admin.list_topics(bench.topic, timeout=DEADLINE_S).topics[bench.topic].partitions) == 3
    bench.confirmed(sink.send([Item(0, "an-id", b"x" * (1024 + 63) * 1024)]))


@pytest.mark.parametrize("end", ["source", "sink"])
def test_a_topic_that_must_not_be_made_is_missed(bench: Bench, end: str) -> None:
    made = bench.source(create=False) if end == "source" else bench.sink(create=False)
    with pytest.raises(NotConnected) as caught:
        made.open()
    assert caught.value.reason == (
        f'kafka {bench.server.server}: topic {bench.topic}: it does not exist, and "create": false keeps it '
        "from being made"
    )


def test_check_makes_no_topic(bench: Bench) -> None:
    connector.connector.check(bench.source().endpoint)
    topics = AdminClient({"bootstrap.servers": bench.server.server}).list_topics(timeout=DEADLINE_S).topics
    assert bench.topic not in topics


def test_a_broker_that_is_away_is_told_with_its_address(kafka: Kafka) -> None:
    nobody = Kafka(Path("unused"), port=free_port())
    bench = Bench(nobody, "confluent")
    with pytest.raises(NotConnected) as caught:
        bench.source().open()
    assert f"kafka {nobody.server}: " in caught.value.reason
    assert "Connection refused" in caught.value.reason
    bench.close()


def test_a_first_submit_may_begin_at_the_end(bench: Bench) -> None:
    bench.make(1)
    bench.publish(numbers(0, 5))
    source = bench.reading(start="latest")
    source.close()
    bench.publish(numbers(5, 8))
    again = bench.reading(start="latest")
    assert [message.payload for message in taken(again, count=3)] == numbers(5, 8)


def test_two_replicas_share_the_partitions_and_miss_nothing(kafka: Kafka) -> None:
    bench = Bench(kafka, "confluent")  # kafka-python waits for its group in the one thread that both have here
    bench.make(4)
    first = bench.reading(0)
    bench.publish(numbers(0, 200))
    found = [message.payload for message in taken(first, count=100)]
    second = bench.source(1)
    second.open()
    second._bound = True
    second._reader.subscribe()  # `bind` would wait for the first, which is served by the same thread
    bench.publish(numbers(200, 400))
    deadline = time.monotonic() + DEADLINE_S
    shared = False
    while (len(set(found)) < 400 or not shared) and time.monotonic() < deadline:
        found += [message.payload for message in taken(first, second, count=1)]
        if set(found) == set(numbers(0, 400)):
            break
        shared = bool(first._assigned) and bool(second._assigned)
    assert set(found) == set(numbers(0, 400))
    bench.until(lambda: len(first._assigned) == len(second._assigned) == 2, "each has two partitions")
    bench.close()


def test_a_second_reader_under_the_same_name_fences_the_first(bench: Bench) -> None:
    bench.make(1)
    first = bench.reading()
    other = Bench(bench.server, bench.client)
    other.topic = bench.topic
    other.reading()
    deadline = time.monotonic() + DEADLINE_S
    while first.failure is None and time.monotonic() < deadline:
        bench.publish([b"1"])
        first.ack(first.take(1, 0.1))
    assert isinstance(first.failure, Superseded)
    assert first.failure.reason.startswith("superseded: another client reads as g.")
    other.close()


def test_a_full_window_stops_the_source_and_keeps_its_partitions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "PAUSE_S", 0.2)
    bench.make(1)
    bench.publish(numbers(0, 30))
    source = bench.reading(window=10)
    held = taken(source, count=10, ack=False)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert source.take(10, 0.1) == []
    assert source._paused
    source.ack(held)
    rest = taken(source, count=20)
    assert [message.payload for message in held + rest] == numbers(0, 30)
    assert not any(message.redelivered for message in rest)


def test_what_comes_again_after_a_crash_is_marked(bench: Bench) -> None:
    bench.make(1)
    bench.publish(numbers(0, 10))
    source = bench.reading()
    held = taken(source, count=10, ack=False)
    source.ack(held[:4])
    bench.until(lambda: not source._done, "committed")
    source._done.clear()
    source._turns.stop()  # and nothing more is heard of it: the next one is the same member
    again = taken(bench.reading(), count=6)
    assert [message.payload for message in again] == numbers(4, 10)
    assert all(message.redelivered for message in again)


def test_release_ends_the_group_and_tells_what_is_left(bench: Bench) -> None:
    bench.make(2)
    bench.publish(numbers(0, 10))
    source = bench.reading()
    source.ack(taken(source, count=10, ack=False)[:3])
    source.close()
    assert bench.release() == 7
    assert bench.release() == 0
    assert len(taken(bench.reading(), count=10)) == 10


def test_records_sent_while_the_broker_is_away_arrive_once_and_in_order(tmp_path: Path) -> None:
    with Kafka(tmp_path / "kafka") as server:
        bench = Bench(server, "confluent")
        bench.make(1)
        sink, source = bench.writing(), bench.reading()
        bench.confirmed(sink.send([Item(0, str(n), b"%d" % n) for n in range(100)]))
        server.stop()
        bench.until(lambda: bool(sink.error), "the loss is seen")
        receipt = sink.send([Item(0, str(n), b"%d" % n) for n in range(100, 200)])
        server.start()
        bench.confirmed(receipt)
        assert [message.payload for message in taken(source, count=200)] == numbers(0, 200)
        bench.until(lambda: sink.connected and source.connected, "both are back")
        assert [json.loads(message.value() or b"") for message in bench.read(200)] == list(range(200))
        bench.close()


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
