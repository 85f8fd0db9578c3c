"""What every connector must do, run over all of them, against a real broker where there is one."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.connectors.base import Receipt, Sink, Source
from fogline.runtimes.connectors.memory import MemoryQueue, MemorySink, MemorySource
from fogline.runtimes.connectors.mqtt import Mqtt, MqttSource
from fogline.runtimes.connectors.mqtt_paho import PahoConnection
from fogline.runtimes.connectors.websocket import WebSocket
from fogline.runtimes.connectors.websocket_source import WebSocketSource
from fogline.runtimes.message import Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from support.mosquitto import Mosquitto, free_port
from support.segments import DEADLINE_S, mqtt_end, websocket_end

WINDOW = 8


class Kit:
    """A queue, and what can be done to it from outside."""

    broker_between = True
    """What is sent is kept, and so confirmed, without its reader."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.made: list[Source | Sink] = []

    def source(self) -> Source:
        raise NotImplementedError

    def sink(self) -> Sink:
        raise NotImplementedError

    def break_connection(self, source: Source) -> None:
        raise NotImplementedError


class MemoryKit(Kit):
    def __init__(self, poller: Poller) -> None:
        super().__init__(poller)
        self._queue = MemoryQueue()
        self._end = EndpointSpec("q", "s", "memory", {}, "")

    def source(self) -> MemorySource:
        return MemorySource(self._end, self.poller, WINDOW, self._queue)

    def sink(self) -> MemorySink:
        return MemorySink(self._end, self.poller, self._queue)

    def break_connection(self, source: Source) -> None:
        assert isinstance(source, MemorySource)
        source.lose_connection()


class MqttKit(Kit):
    def __init__(self, poller: Poller, folder: Path, client: str) -> None:
        super().__init__(poller)
        self.broker = Mosquitto(folder)
        self.broker.start()
        self._mqtt = Mqtt()
        self._options = {"client": client}

    def source(self) -> Source:
        return self._mqtt.source(self._end("reader"), self.poller, WINDOW)

    def sink(self) -> Sink:
        return self._mqtt.sink(self._end("writer"), self.poller)

    def _end(self, stage: str) -> EndpointSpec:
        return mqtt_end("q", stage, self.broker.port, options=self._options)

    def break_connection(self, source: Source) -> None:
        self.settle(source)
        self.broker.restart()
        self.until(lambda: not source.connected, "the loss is seen")
        self.until(lambda: source.connected, "the source is back")

    def settle(self, source: Source) -> None:
        """Wait until the broker has read all acknowledgements: one that dies earlier may lose them."""
        assert isinstance(source, MqttSource)
        client: Any = source._link.client
        with self.poller.lock:
            if isinstance(client, PahoConnection):
                client._client._send_pingreq()
            else:
                client.ping()
            source._link.flush()
        self.until(lambda: not _pinging(client), "the broker answers a ping")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, what
            self.poller.wait(0.05)


class WebSocketKit(Kit):
    """The two ends alone. The one that listens must be there first: an end that dials opens the other with it."""

    broker_between = False

    def __init__(self, poller: Poller, role: str) -> None:
        super().__init__(poller)
        self._role = role
        self._port = free_port()
        self._listening: Sink | None = None

    def source(self) -> Source:
        if self._role == "connect" and self._listening is None:
            self._listening = self._sink()
            self.made.append(self._listening)
            self._listening.open()
        return WebSocket().source(self._end("reader", written_by_stage=True), self.poller, WINDOW)

    def sink(self) -> Sink:
        return self._listening or self._sink()

    def break_connection(self, source: Source) -> None:
        assert isinstance(source, WebSocketSource)
        (former,) = source._writers.values()
        former.connection.sock.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + DEADLINE_S
        while former.number in source._writers or not any(each.next for each in source._writers.values()):
            assert time.monotonic() < deadline, "the writer is back"
            self.poller.wait(0.05)

    def _sink(self) -> Sink:
        return WebSocket().sink(self._end("writer", read_by_stage=True), self.poller)

    def _end(self, stage: str, **more: Any) -> EndpointSpec:
        return websocket_end("q", stage, self._port, options={"role": self._role}, **more)


def _pinging(client: Any) -> bool:
    return bool(client._client._ping_t if isinstance(client, PahoConnection) else client.pinging)


BROKERLESS = ("memory", "listen", "connect")


@pytest.fixture(params=[*BROKERLESS, *(pytest.param(each, marks=pytest.mark.broker) for each in ("lean", "paho"))])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    poller = Poller()
    made: Any
    if request.param in BROKERLESS:
        made = MemoryKit(poller) if request.param == "memory" else WebSocketKit(poller, request.param)
    else:
        made = MqttKit(poller, tmp_path, request.param)
    yield made
    for each in made.made:
        each.close()
    poller.close()
    if isinstance(made, MqttKit):
        made.broker.stop()


def bound(kit: Kit) -> Source:
    source = opened_source(kit)
    source.bind()
    return source


def opened_source(kit: Kit) -> Source:
    source = kit.source()
    kit.made.append(source)
    source.open()
    return source


def opened(kit: Kit) -> Sink:
    sink = kit.sink()
    kit.made.append(sink)
    sink.open()
    return sink


def items(*payloads: bytes) -> list[Item]:
    return [Item(0, f"id-{number}", payload) for number, payload in enumerate(payloads)]


def numbers(start: int, stop: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, stop)]


def taken(source: Source, count: int) -> list[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(messages) < count and time.monotonic() < deadline:
        messages += source.take(count - len(messages), 0.2)
    return messages


def confirmed(kit: Kit, receipt: Receipt) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not receipt.done and time.monotonic() < deadline:
        kit.poller.wait(0.1)
    assert receipt.done


def test_what_is_sent_arrives_in_order(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sent = numbers(0, WINDOW)
    receipt = sink.send(items(*sent))
    messages = taken(source, len(sent))
    assert [message.payload for message in messages] == sent
    assert not any(message.redelivered for message in messages)
    source.ack(messages)
    confirmed(kit, receipt)


def test_what_is_sent_before_the_reader_opens_again_waits_for_it(kit: Kit) -> None:
    former, sink = bound(kit), opened(kit)
    former.close()
    receipt = sink.send(items(*numbers(0, 3)))
    if kit.broker_between:
        confirmed(kit, receipt)
    source = bound(kit)
    messages = taken(source, 3)
    assert [message.payload for message in messages] == numbers(0, 3)
    source.ack(messages)
    confirmed(kit, receipt)


def test_nothing_is_brought_before_bind(kit: Kit) -> None:
    source = opened_source(kit)
    assert source.take(10, 0.05) == []


def test_bind_twice_is_bind_once(kit: Kit) -> None:
    source = bound(kit)
    source.bind()
    opened(kit).send(items(b"1"))
    assert len(taken(source, 1)) == 1
    assert source.take(10, 0.2) == []


def test_at_most_the_window_is_out_unacknowledged(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 3 * WINDOW)))
    first = taken(source, WINDOW)
    assert len(first) == WINDOW
    assert source.take(3 * WINDOW, 0.3) == []
    source.ack(first)
    assert [message.payload for message in taken(source, WINDOW)] == numbers(WINDOW, 2 * WINDOW)


def test_take_gives_no_more_than_asked(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, WINDOW)))
    assert len(taken(source, 3)) == 3
    assert [message.payload for message in taken(source, 2)] == numbers(3, 5)


def test_unacknowledged_messages_come_again_and_are_marked(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 4)))
    first = taken(source, 4)
    source.ack(first[:2])
    kit.break_connection(source)
    again = taken(source, 2)
    assert [message.payload for message in again] == numbers(2, 4)
    assert all(message.redelivered for message in again)


def test_an_acknowledgement_of_an_earlier_connection_is_passed_over(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 2)))
    first = taken(source, 2)
    kit.break_connection(source)
    source.ack(first)
    kit.break_connection(source)
    again = taken(source, 2)
    assert [message.payload for message in again] == numbers(0, 2)
    source.ack(again)
    assert source.take(10, 0.2) == []


def test_after_stop_intake_only_acknowledgements_flow(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 4)))
    first = taken(source, 2)
    source.stop_intake()
    assert source.take(10, 0.2) == []
    source.ack(first)
    source.close()
    assert [message.payload for message in taken(bound(kit), 2)] == numbers(2, 4)


def test_the_same_foreign_message_has_the_same_id(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(b"1"))
    (first,) = taken(source, 1)
    kit.break_connection(source)
    (again,) = taken(source, 1)
    assert again.id == first.id


def test_a_payload_of_a_megabyte_passes(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    large = b'"' + b"x" * 1_000_000 + b'"'
    receipt = sink.send(items(large, b"1"))
    messages = taken(source, 2)
    assert [message.payload for message in messages] == [large, b"1"]
    source.ack(messages)
    confirmed(kit, receipt)
