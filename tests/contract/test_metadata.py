"""What travels beside a payload over MQTT, seen by foreign programs; and `props.metadata` over real brokers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from fogline.runtimes import registry
from fogline.runtimes.connectors.base import Sink, Source
from fogline.runtimes.message import Carried, Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from support.kafka import Kafka
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.odd_brokers import amqtt
from support.segments import DEADLINE_S, mqtt_end

pytestmark = pytest.mark.broker

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIME_MS = 1_700_000_000_123
clients = pytest.mark.parametrize("client", ["lean", "paho"])


class Ends:
    """Sources and sinks as a segment has them."""

    def __init__(self) -> None:
        self.poller = Poller()
        self._made: list[Any] = []

    def source(self, end: EndpointSpec) -> Source:
        made = registry.connector(end).source(end, self.poller, 64)
        self._made.append(made)
        made.open()
        made.bind()
        return made

    def sink(self, end: EndpointSpec) -> Sink:
        made = registry.connector(end).sink(end, self.poller)
        self._made.append(made)
        made.open()
        return made

    def taken(self, source: Source, count: int) -> list[Message]:
        messages: list[Message] = []

        def enough() -> bool:
            messages.extend(source.take(9, 0.02))
            return len(messages) >= count

        self.until(enough)
        return messages

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline
            self.poller.wait(0.02)

    def close(self) -> None:
        for each in self._made:
            each.close()
        self.poller.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def records(messages: list[Message]) -> list[Any]:
    return [orjson.loads(message.payload) for message in messages]


@clients
def test_time_and_trace_are_read_from_any_publisher(ends: Ends, broker: Mosquitto, client: str) -> None:
    source = ends.source(mqtt_end("q", "reader", broker.port, options={"client": client}))
    with Peer(broker.port) as peer:
        peer.publish("t/q", b"1", ident="given", fogline_time=str(TIME_MS), traceparent=TRACE)
        peer.publish("t/q", b"2", traceparent=TRACE, fogline_time="yesterday")
        peer.publish("t/q", b"3", traceparent="x" * 600, fogline_time="9" * 5000)
        first, second, third = ends.taken(source, 3)
    assert (first.id, first.carried) == ("given", Carried(None, TIME_MS, TRACE))
    assert second.carried.traceparent == TRACE
    assert third.carried.traceparent == ""
    now_ms = time.time() * 1000
    assert all(now_ms - 10_000 < each.carried.time_ms <= now_ms for each in (second, third))


@clients
def test_time_and_trace_are_there_for_any_subscriber(ends: Ends, broker: Mosquitto, client: str) -> None:
    sink = ends.sink(mqtt_end("q", "writer", broker.port, options={"client": client}))
    with Peer(broker.port) as peer:
        peer.subscribe("t/q")
        sink.send([Item(0, "a", b"1", Carried(b"k", TIME_MS, TRACE)), Item(0, "b", b"2", Carried(None, TIME_MS))])
        sink.send([Item(0, "c", b"3")])
        ends.until(lambda: len(peer.payloads) == 3)
    time_ms = ("fogline-time", str(TIME_MS))
    assert peer.headers[0] == [("fogline-id", "a"), time_ms, ("traceparent", TRACE)]
    assert peer.headers[1] == [("fogline-id", "b"), time_ms]
    assert peer.headers[2] == [("fogline-id", "c")]


@clients
def test_a_broker_of_version_3_carries_nothing(tmp_path: Path, client: str) -> None:
    ends = Ends()
    with amqtt(tmp_path / "amqtt.log") as port:
        options = {"client": client, "metadata": "_meta"}
        source = ends.source(mqtt_end("q", "reader", port, options=options))
        ends.sink(mqtt_end("q", "writer", port)).send([Item(0, "a", b"{}", Carried(None, TIME_MS, TRACE))])
        (message,) = ends.taken(source, 1)
        ends.close()
    assert message.carried.time_ms > TIME_MS
    assert message.carried.traceparent == ""
    assert records([message])[0]["_meta"] | {"time": ""} == {"topic": "t/q", "key": None, "time": "", "headers": {}}


@clients
def test_each_record_is_told_where_it_came_by(ends: Ends, broker: Mosquitto, client: str) -> None:
    options = {"client": client, "topic": "plant/+/raw", "metadata": "_meta"}
    source = ends.source(mqtt_end("q", "reader", broker.port, options=options))
    with Peer(broker.port) as peer:
        peer.publish("plant/oven/raw", b'{"n":1}', ident="a", fogline_time=str(TIME_MS), traceparent=TRACE, unit="K")
        peer.publish("plant/press/raw", b'{"n":2}')
        first, second = records(ends.taken(source, 2))
    headers = {"unit": "K", "other": "x", "traceparent": TRACE}
    found = {"topic": "plant/oven/raw", "key": None, "time": "2023-11-14T22:13:20.123Z", "headers": headers}
    assert first == {"n": 1, "_meta": found}
    assert (second["n"], second["_meta"]["topic"], second["_meta"]["headers"]) == (2, "plant/press/raw", {})


@pytest.mark.parametrize("client", ["confluent", "python"])
def test_keys_and_headers_of_kafka_are_told(ends: Ends, kafka: Kafka, client: str) -> None:
    topic = uuid.uuid4().hex
    options = {"server": "127.0.0.1", "port": kafka.port, "topic": topic, "client": client, "metadata": "_meta"}
    source = ends.source(EndpointSpec("q", "reader", "kafka", options, f"g.{topic}.0", f"g.{topic}"))
    producer = Producer({"bootstrap.servers": kafka.server})
    headers: list[tuple[str, str | bytes | None]]
    headers = [("unit", b"K"), ("unit", b"C"), ("odd", b"\xff"), ("none", None), ("fogline-id", b"a")]
    producer.produce(topic, b'{"n":1}', b"oven", headers=headers, timestamp=TIME_MS)
    producer.produce(topic, b'{"n":2}', timestamp=TIME_MS + 1)
    assert producer.flush(DEADLINE_S) == 0
    first, second = records(ends.taken(source, 2))
    told = {"unit": "C", "odd": "\ufffd", "none": ""}
    found = {"topic": topic, "key": "oven", "time": "2023-11-14T22:13:20.123Z", "headers": told}
    assert first == {"n": 1, "_meta": found}
    assert second["_meta"] == {"topic": topic, "key": None, "time": "2023-11-14T22:13:20.124Z", "headers": {}}


@pytest.mark.parametrize("client", ["confluent", "python"])
def test_the_lag_is_what_is_not_committed(ends: Ends, kafka: Kafka, client: str) -> None:
    topic = uuid.uuid4().hex
    options = {"server": "127.0.0.1", "port": kafka.port, "topic": topic, "client": client, "metadata": "_meta"}
    source = ends.source(EndpointSpec("q", "reader", "kafka", options, f"g.{topic}.0", f"g.{topic}"))
    assert source.lag in {None, 0}
    producer = Producer({"bootstrap.servers": kafka.server})
    for number in range(10):
        producer.produce(topic, b"%d" % number)
    assert producer.flush(DEADLINE_S) == 0
    messages = ends.taken(source, 10)
    source.ack(messages[:4])
    ends.until(lambda: source.take(9, 0.02) or source.lag == 6)
    source.ack(messages[4:])
    ends.until(lambda: source.take(9, 0.02) or source.lag == 0)
