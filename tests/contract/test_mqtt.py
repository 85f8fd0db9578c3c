"""What only MQTT can get wrong, against real brokers."""

from __future__ import annotations

import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.connectors.mqtt import BIND_TIMEOUT_S, Mqtt, MqttSource
from fogline.runtimes.connectors.mqtt_sink import MqttSink
from fogline.runtimes.errors import NotConnected, Superseded
from fogline.runtimes.message import Item, Message
from fogline.runtimes.mqtt import packets
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import SpecError
from support.mosquitto import Mosquitto, free_port
from support.mqtt_peer import Peer
from support.odd_brokers import amqtt, swallow, take_over, welcome_for
from support.segments import DEADLINE_S, holds, mqtt_end

pytestmark = pytest.mark.broker
WINDOW = 8


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


class Ends:
    """Makes sources and sinks for one port and closes them."""

    def __init__(self, port: int, poller: Poller) -> None:
        self.port = port
        self.poller = poller
        self._made: list[Any] = []

    def source(self, queue: str = "q", *, keep_alive_s: int = 30, **more: Any) -> MqttSource:
        source = Mqtt(keep_alive_s).source(mqtt_end(queue, "reader", self.port, **more), self.poller, WINDOW)
        assert isinstance(source, MqttSource)
        self._open(source)
        return source

    def bound(self, queue: str = "q", **more: Any) -> MqttSource:
        source = self.source(queue, **more)
        source.bind()
        return source

    def sink(self, queue: str = "q", *, keep_alive_s: int = 30, **more: Any) -> MqttSink:
        sink = Mqtt(keep_alive_s).sink(mqtt_end(queue, "writer", self.port, **more), self.poller)
        assert isinstance(sink, MqttSink)
        self._open(sink)
        return sink

    def until(self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}"
            self.poller.wait(0.02)

    def taken(self, source: MqttSource, count: int) -> list[Message]:
        messages: list[Message] = []

        def enough() -> bool:
            messages.extend(source.take(count - len(messages), 0.0))
            return len(messages) >= count

        self.until(enough, "messages")
        return messages

    def close(self) -> None:
        for each in self._made:
            each.close()

    def _open(self, end: Any) -> None:
        self._made.append(end)
        end.open()


@pytest.fixture
def ends(broker: Mosquitto, poller: Poller) -> Iterator[Ends]:
    made = Ends(broker.port, poller)
    yield made
    made.close()


def items(*payloads: bytes) -> list[Item]:
    return [Item(0, f"id-{payload.decode()}", payload) for payload in payloads]


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


def test_nobody_listening_is_told_in_words(poller: Poller) -> None:
    port = free_port()
    with pytest.raises(NotConnected) as caught:
        Ends(port, poller).sink()
    assert caught.value.reason == f"broker 127.0.0.1:{port}: Connection refused"


def test_a_refusal_is_told_in_the_brokers_words(tmp_path: Path, poller: Poller) -> None:
    (tmp_path / "passwords").touch()
    extra = ("allow_anonymous false", f"password_file {tmp_path}/passwords")
    with Mosquitto(tmp_path / "closed", extra=extra) as broker, pytest.raises(NotConnected) as caught:
        Ends(broker.port, poller).sink()
    assert caught.value.reason == f"broker 127.0.0.1:{broker.port}: refused the connection: Not authorized"


@pytest.mark.parametrize("client", ["lean", "paho"])
def test_a_login_is_needed_where_the_broker_asks_for_one(tmp_path: Path, poller: Poller, client: str) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "edge", "right"], check=True)
    passwords.chmod(0o644)
    extra = ("allow_anonymous false", f"password_file {passwords}")
    with Mosquitto(tmp_path / "closed", extra=extra) as broker:
        ends = Ends(broker.port, poller)
        login = {"username": "edge", "client": client}
        with pytest.raises(NotConnected, match="refused the connection: Not authorized"):
            ends.sink(options=login | {"password": "wrong"})
        source = ends.bound(options=login | {"password": "right"})
        sink = ends.sink(options=login | {"password": "right"})
        sink.send(items(b"1"))
        assert [message.payload for message in ends.taken(source, 1)] == [b"1"]
        ends.close()


def test_what_is_sent_while_the_broker_is_away_goes_out_in_order_when_it_is_back(ends: Ends, broker: Mosquitto) -> None:
    source, sink = ends.bound(), ends.sink()
    broker.stop()
    ends.until(lambda: not sink.connected, "the loss is seen")
    receipts = [sink.send(items(*numbers(start, start + 4))) for start in (0, 4)]
    assert "127.0.0.1" in sink.error
    broker.start()
    messages = ends.taken(source, 8)
    assert [message.payload for message in messages] == numbers(0, 8)
    ends.until(lambda: all(receipt.done for receipt in receipts), "confirmation")
    assert sink.error == ""


def test_a_publish_without_its_reader_is_tried_again_until_the_reader_is_there(ends: Ends) -> None:
    sink = ends.sink(read_by_stage=True)
    receipt = sink.send(items(*numbers(0, 5)))
    ends.until(lambda: "nobody is subscribed to t/q" in sink.error, "the reason")
    assert receipt.left == 5
    source = ends.bound()
    assert [message.payload for message in ends.taken(source, 5)] == numbers(0, 5)
    ends.until(lambda: receipt.done, "confirmation")
    assert (receipt.unrouted, sink.error) == (0, "")


def test_a_publish_that_no_stage_reads_is_confirmed_and_counted_unrouted(ends: Ends) -> None:
    receipt = ends.sink().send(items(*numbers(0, 5)))
    ends.until(lambda: receipt.done, "confirmation")
    assert receipt.unrouted == 5


def test_ids_travel_in_both_directions(ends: Ends, broker: Mosquitto) -> None:
    source = ends.bound("in")
    with Peer(broker.port) as peer:
        peer.subscribe("t/out")
        peer.publish("t/in", b"1", ident="given")
        peer.publish("t/in", b"2")
        given, foreign = ends.taken(source, 2)
        ends.sink("out").send([Item(0, "out/1/0", b"3")])
        ends.until(lambda: peer.payloads, "the output")
        assert (peer.payloads, peer.ids) == ([b"3"], ["out/1/0"])
    assert given.id == "given"
    assert len(foreign.id) == 64


def test_a_retained_value_is_no_event(ends: Ends, broker: Mosquitto) -> None:
    with Peer(broker.port) as peer:
        peer.publish("t/q", b"old", retain=True)
        source = ends.bound()
        peer.publish("t/q", b"new")
        assert [message.payload for message in ends.taken(source, 1)] == [b"new"]
        assert source.take(5, 0.2) == []


def test_a_wildcard_can_be_read_and_not_written(ends: Ends, broker: Mosquitto) -> None:
    source = ends.bound(options={"topic": "t/+/x"})
    with Peer(broker.port) as peer:
        peer.publish("t/1/x", b"1")
        peer.publish("t/2/x", b"2")
        assert [message.payload for message in ends.taken(source, 2)] == [b"1", b"2"]
    Mqtt().check(source.endpoint)
    with pytest.raises(SpecError, match="wildcard"):
        ends.sink(options={"topic": "t/+/x"})


def test_qos_0_messages_are_read_and_need_no_acknowledgement(ends: Ends, broker: Mosquitto) -> None:
    source = ends.bound()
    with Peer(broker.port) as peer:
        peer.publish("t/q", *numbers(0, 5), qos=0)
        messages = ends.taken(source, 5)
    source.ack(messages)
    assert [message.payload for message in messages] == numbers(0, 5)


def test_a_busy_handler_loses_neither_a_quiet_connection_nor_a_flooded_one(ends: Ends, broker: Mosquitto) -> None:
    """What no acknowledgement bounds (QoS 0) is left in the socket, where the broker's PINGRESP is then too."""
    quiet, flooded = ends.bound("quiet", keep_alive_s=1), ends.bound("flooded", keep_alive_s=1)
    sink = ends.sink("quiet")
    sink.send(items(b"1"))
    (message,) = ends.taken(quiet, 1)
    with Peer(broker.port) as peer:
        peer.publish("t/flooded", *numbers(0, 200), qos=0)
        ends.until(lambda: flooded._link.paused, "the reader has enough")
        # User code: nobody calls the connectors. mosquitto looks for the silent every 5 s.
        holds(lambda: len(flooded._arrived) == 2 * WINDOW, 8.0)
        assert [each.payload for each in ends.taken(flooded, 200)] == numbers(0, 200)
        peer.publish("t/flooded", b"more", qos=0)
        assert [each.payload for each in ends.taken(flooded, 1)] == [b"more"]
    quiet.ack([message])
    sink.send(items(b"2"))
    assert [each.payload for each in ends.taken(quiet, 1)] == [b"2"]
    assert (quiet._link.number, flooded._link.number) == (1, 1)


def test_the_one_that_was_there_first_yields_to_a_second_copy(ends: Ends) -> None:
    """mosquitto 2.0.11 closes the evicted connection without a word."""
    first = ends.bound()
    ends.until(lambda: first.connected, "the first reader")
    second = ends.bound()
    ends.until(lambda: first.failure or second.failure, "one of them yields", 40.0)
    assert first.failure is not None
    assert "superseded" in first.error
    ends.until(lambda: second.connected, "the second goes on")
    ends.sink().send(items(b"1"))
    assert [message.payload for message in ends.taken(second, 1)] == [b"1"]


def test_a_broker_that_says_taken_over_is_believed_at_once(poller: Poller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = Ends(server.getsockname()[1], poller)
        connected = threading.Event()
        thread = threading.Thread(target=take_over, args=(server, connected))
        thread.start()
        source = ends.source()
        connected.set()
        ends.until(lambda: source.failure, "the failure")
        thread.join()
    assert isinstance(source.failure, Superseded)
    assert not source.connected
    ends.close()


def test_a_broker_that_takes_everything_and_answers_nothing_is_given_up(poller: Poller) -> None:
    """Writing alone proves nothing: a cut cable takes it for a long time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=swallow, args=(server, over))
        thread.start()
        ends = Ends(server.getsockname()[1], poller)
        sink = ends.sink(keep_alive_s=1)
        count = itertools.count()

        def lost() -> bool:
            sink.send(items(b"%d" % next(count)))
            return not sink.connected

        ends.until(lost, "the loss is seen", 5.0)
        assert "no answer to a ping for 1 s" in sink.error
        over.set()
        ends.close()
        thread.join()


@pytest.fixture
def old_broker(tmp_path: Path) -> Iterator[int]:
    """Speaks 3.1.1 only."""
    with amqtt(tmp_path / "amqtt.log") as port:
        yield port


def test_a_broker_that_wants_more_frequent_signs_of_life_gets_them(poller: Poller) -> None:
    heard = list[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=welcome_for, args=(server, 1, heard))
        thread.start()
        ends = Ends(server.getsockname()[1], poller)
        ends.sink(keep_alive_s=30)
        ends.until(lambda: heard, "a ping", 3.0)
        ends.close()
        thread.join()
    assert heard[0] == packets.PINGREQ


def test_a_broker_of_version_3_is_spoken_to_in_version_3(
    old_broker: int, poller: Poller, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends(old_broker, poller)
    with Peer(old_broker, v5=False) as peer:
        peer.publish("t/q", b"old", retain=True)
    source, sink = ends.bound(), ends.sink()
    receipt = sink.send(items(*numbers(0, 20)))
    received: list[bytes] = []

    def all_came() -> bool:
        messages = source.take(5, 0.0)
        source.ack(messages)
        received.extend(message.payload for message in messages)
        return len(received) == 20 and receipt.done

    ends.until(all_came, "all messages")
    assert received == numbers(0, 20)
    assert "3.1.1 only" in caplog.text
    ends.close()


def test_connecting_again_subscribes_again(ends: Ends, broker: Mosquitto) -> None:
    """The broker lost the session (no store): without a new SUBSCRIBE nothing would ever come."""
    source, sink = ends.bound(), ends.sink()
    broker.stop()
    (broker.folder / "mosquitto.db").unlink()
    broker.start()
    ends.until(lambda: source.connected and source._link.number == 2, "the source is back")
    sink.send(items(b"1"))
    assert [message.payload for message in ends.taken(source, 1)] == [b"1"]


def test_release_ends_the_session(ends: Ends, broker: Mosquitto) -> None:
    source = ends.bound()
    source.close()
    Mqtt().release(source.endpoint)
    receipt = ends.sink().send(items(b"1"))
    ends.until(lambda: receipt.done, "confirmation")
    assert receipt.unrouted == 1


def test_check_leaves_the_readers_session_alone(ends: Ends) -> None:
    source, sink = ends.bound(), ends.sink()
    Mqtt().check(source.endpoint)
    assert source.connected
    receipt = sink.send(items(b"1"))
    ends.until(lambda: receipt.done, "confirmation")
    assert receipt.unrouted == 0


def test_a_backlog_in_front_of_the_confirmation_is_worked_off_first(ends: Ends, broker: Mosquitto) -> None:
    """mosquitto 2.0.11 sends another window at each acknowledgement, until all it has is out; and all of that
    comes again, before the confirmation of the subscription, at the next connect."""
    total, acknowledged = 50 * WINDOW, WINDOW
    source = ends.bound()
    with Peer(broker.port) as peer:
        peer.publish("t/q", *numbers(0, total))
    source.ack(ends.taken(source, acknowledged))
    ends.until(lambda: source._link.paused, "more than the window came")
    source.close()
    started = time.monotonic()
    again = ends.bound()
    assert time.monotonic() - started < BIND_TIMEOUT_S / 2
    left: list[bytes] = []
    while len(left) < total - acknowledged:
        messages = ends.taken(again, WINDOW)
        again.ack(messages)
        left += [message.payload for message in messages]
    assert left == numbers(acknowledged, total)
    ends.until(lambda: again.connected, "the confirmation")
