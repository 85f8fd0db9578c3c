"""What Kafka alone has: keys, groups, offsets, topics; over both libraries, on a real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from fogline.runtimes.connectors import kafka as connector
from fogline.runtimes.connectors import kafka_source
from fogline.runtimes.connectors.kafka_source import KafkaSource
from fogline.runtimes.errors import NotConnected, Superseded
from fogline.runtimes.message import Carried, Item
from fogline.runtimes.message import Message as Taken
from support.kafka import Kafka
from support.kafka_bench import Bench, numbers
from support.mosquitto import free_port
from support.segments import DEADLINE_S

pytestmark = pytest.mark.broker

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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


def test_records_that_the_broker_deleted_before_they_were_read_are_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.make(1)
    bench.publish(numbers(0, 10))
    source = bench.reading()
    source.ack(taken(source, count=10, ack=False)[:3])
    source.close()
    admin = AdminClient({"bootstrap.servers": bench.server.server})
    place = TopicPartition(bench.topic, 0, 6)
    admin.delete_records([place])[place].result(DEADLINE_S)
    assert [message.payload for message in taken(bench.reading(), count=4)] == numbers(6, 10)
    assert f"3 records of {bench.topic}, partition 0, were deleted by the broker before they were read" in caplog.text
