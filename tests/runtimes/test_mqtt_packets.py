"""Packets against paho's own, over a socket with paho at its other end; and a decoder that no bytes surprise."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from fogline.runtimes.mqtt import packets, reasons
from fogline.runtimes.mqtt.decoder import (
    Connack,
    Decoder,
    Disconnect,
    Malformed,
    Packet,
    Pingresp,
    Puback,
    Publish,
    Suback,
    user_properties,
    user_property,
)
from fogline.runtimes.mqtt.packets import V5, V311, Connect, Publisher

NAME = "fogline-id"
SNOWY = "s3cret \u2603"
MARK = packets.user_property_mark(NAME)
CONNACKS = {V5: b"\x20\x03\x00\x00\x00", V311: b"\x20\x02\x00\x00"}
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
topics = texts.filter(lambda topic: topic and not set(topic) & set("+#"))
mids = st.integers(1, 65_535)
payloads = st.one_of(st.binary(max_size=300), st.integers(0, 200_000).map(bytes))
versions = pytest.mark.parametrize("version", [V5, V311])
many = settings(max_examples=150, deadline=None)


class Paho:
    """A paho client, and the broker's end of its connection in our hands."""

    def __init__(self, version: int) -> None:
        self.client: Any = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            "reader",
            protocol=paho.MQTTv5 if version == V5 else paho.MQTTv311,
            clean_session=False if version == V311 else None,
        )
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.messages: list[Any] = []
        self.client.username_pw_set("edge", SNOWY)
        with socket.create_server(("127.0.0.1", 0)) as server:
            options: dict[str, Any] = {}
            if version == V5:
                wishes = Properties(PacketTypes.CONNECT)
                wishes.SessionExpiryInterval, wishes.ReceiveMaximum = 3600, 64
                options = {"clean_start": False, "properties": wishes}
            self.client.connect("127.0.0.1", server.getsockname()[1], 30, **options)
            self.broker, _ = server.accept()
        self.broker.settimeout(10.0)
        self.client.loop_write()
        self.connect = self.broker.recv(4096)
        self.broker.sendall(CONNACKS[version])
        self.client.loop_read()

    def received(self, sent: bytes) -> Any:
        """The message that paho reads from these bytes."""
        self.messages.clear()
        self.broker.sendall(sent)
        while not self.messages:
            assert self.client.loop_read() == paho.MQTT_ERR_SUCCESS
        return self.messages[0]

    def acknowledge(self, sent: Any) -> None:
        """Let paho know that a message arrived; it takes what we write only when it is not kept waiting."""
        self.broker.sendall(packets.puback(sent.mid))
        while not sent.is_published():
            assert self.client.loop_read() == paho.MQTT_ERR_SUCCESS

    def wrote(self) -> bytes:
        """Everything paho has written, up to the end of a packet."""
        decoder, got = _Frames(), b""
        while not decoder.whole(got):
            self.client.loop_write()
            got += self.broker.recv(1 << 20)
        return got

    def __enter__(self) -> Paho:
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.close()
        self.client.socket().close()


class _Frames:
    """Tells where packets end, by nothing but their lengths."""

    def whole(self, data: bytes) -> bool:
        at = 0
        while at < len(data):
            size, shift, place = 0, 0, at + 1
            while place < len(data):
                size |= (data[place] & 127) << shift
                shift, place = shift + 7, place + 1
                if data[place - 1] < 128:
                    break
            at = place + size
        return bool(data) and at == len(data)


def decoded(data: bytes, version: int) -> list[Packet]:
    decoder = Decoder(version)
    decoder.feed(data)
    return list(decoder)


@versions
def test_connect_is_what_paho_sends(version: int) -> None:
    wish = Connect("reader", 30, session_expiry_s=3600, receive_maximum=64, username="edge", password=SNOWY)
    assert SNOWY not in repr(wish)
    with Paho(version) as peer:
        assert wish.to_bytes(version) == peer.connect


@versions
def test_subscribe_is_what_paho_sends(version: int) -> None:
    wish: dict[str, Any] = {"options": SubscribeOptions(qos=1, retainHandling=2)} if version == V5 else {"qos": 1}
    with Paho(version) as peer:
        _, mid = peer.client.subscribe("plant/+/raw", **wish)
        assert packets.subscribe(mid, "plant/+/raw", version) == peer.wrote()


@versions
@many
@given(topic=topics, mid=mids, value=texts, payload=payloads)
def test_paho_reads_what_we_publish(version: int, topic: str, mid: int, value: str, payload: bytes) -> None:
    with Paho(version) as peer:
        message = peer.received(Publisher(topic, version).packet(mid, packets.packed_property(NAME, value), payload))
    assert (message.topic, message.payload, message.mid, message.qos) == (topic, payload, mid, 1)
    if version == V5:
        assert message.properties.UserProperty == [(NAME, value)]


@versions
@many
@given(topic=topics, value=texts, payload=payloads, qos=st.integers(0, 1), retained=st.booleans())
def test_we_read_what_paho_publishes(
    version: int, topic: str, value: str, payload: bytes, qos: int, retained: bool
) -> None:
    properties = None
    if version == V5:
        properties = Properties(PacketTypes.PUBLISH)
        properties.MessageExpiryInterval, properties.ContentType = 60, value
        properties.UserProperty = [("other", value), (NAME, value)]
    with Paho(version) as peer:
        sent = peer.client.publish(topic, payload, qos, retained, properties)
        (publish,) = decoded(peer.wrote(), version)
        assert isinstance(publish, Publish)
        assert publish[:5] == (topic, payload, sent.mid if qos else 0, False, retained)
        assert user_property(publish.properties, MARK) == (value.encode() if version == V5 else b"")
        assert user_properties(publish.properties) == ([("other", value), (NAME, value)] if version == V5 else [])
        if qos:
            peer.acknowledge(sent)


SMALL: list[tuple[bytes, Packet]] = [
    (b"\x20\x03\x01\x00\x00", Connack(True, 0)),
    (b"\x20\x09\x00\x00\x06\x21\x00\x14\x13\x00\x0a", Connack(False, 0, 20, 10)),
    (b"\x20\x0f\x00\x87\x0c\x1f\x00\x02no\x26\x00\x01a\x00\x01b", Connack(False, 0x87)),
    (b"\x40\x02\x01\x02", Puback(258, 0)),
    (b"\x40\x03\x01\x02\x10", Puback(258, reasons.NO_SUBSCRIBERS)),
    (b"\x40\x04\x00\x01\x97\x00", Puback(1, 0x97)),
    (b"\x90\x04\x00\x07\x00\x01", Suback(7, b"\x01")),
    (b"\xd0\x00", Pingresp()),
    (b"\xe0\x00", Disconnect(0)),
    (b"\xe0\x01\x8e", Disconnect(reasons.TAKEN_OVER)),
    (b"\x3b\x08\x00\x01t\x00\x09\x00{}", Publish("t", b"{}", 9, True, True, b"")),
]


@pytest.mark.parametrize(("data", "packet"), SMALL)
def test_what_a_broker_may_send_is_understood(data: bytes, packet: Packet) -> None:
    assert decoded(data, V5) == [packet]


@given(st.lists(st.sampled_from(SMALL), max_size=30), st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_pieces_make_no_difference(sent: list[tuple[bytes, Packet]], sizes: list[int]) -> None:
    data, decoder, found = b"".join(each for each, _ in sent), Decoder(V5), list[Packet]()
    while data:
        sizes = [*sizes[1:], sizes[0]]
        decoder.feed(data[: sizes[0]])
        data = data[sizes[0] :]
        found += list(decoder)
    assert found == [packet for _, packet in sent]


def test_stopping_in_between_loses_nothing() -> None:
    decoder = Decoder(V5)
    decoder.feed(b"\xd0\x00\x40\x02\x00\x01\x40\x02")
    assert next(decoder) == Pingresp()
    decoder.feed(b"\x00\x02")
    assert list(decoder) == [Puback(1, 0), Puback(2, 0)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00\x00", "begins with 0x00"),
        (b"\x50\x02\x00\x01", "begins with 0x50"),
        (b"HTTP/1.1 400 Bad Request\r\n" + bytes(60), "begins with 0x48"),
        (b"\x30\x80\x80\x80\x80\x01", "length of more than four bytes"),
        (b"\x30\x00", "shorter than its topic"),
        (b"\x30\x03\x00\x09t", "shorter than its topic"),
        (b"\x32\x06\x00\x01t\x00\x00\x00", "without packet id"),
        (b"\x34\x06\x00\x01t\x00\x01\x00", "QoS 2"),
        (b"\x30\x04\x00\x01t\x05", "shorter than its properties"),
        (b"\x30\x04\x00\x01\xff\x00", "not UTF-8"),
        (b"\x40\x01\x00", "without packet id"),
        (b"\x20\x01\x00", "ends too early"),
        (b"\x20\x05\x00\x00\x02\x7f\x00", "property 0x7f"),
        (b"\x20\x05\x00\x00\x02\x21\x00", "ends too early"),
        (b"\x90\x03\x00\x01\x00", "ends too early"),
    ],
)
def test_what_is_no_mqtt_is_said_to_be_none(data: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        decoded(data, V5)


hostile = st.one_of(
    st.binary(max_size=200),
    st.tuples(st.sampled_from(SMALL), st.integers(0, 15), st.integers(0, 255)).map(
        lambda given: given[0][0][: given[1]] + bytes((given[2],)) + given[0][0][given[1] + 1 :]
    ),
    st.tuples(st.binary(min_size=1, max_size=1), st.binary(max_size=60)).map(
        lambda given: given[0] + bytes((len(given[1]),)) + given[1]
    ),
)


@versions
@settings(max_examples=1500)
@given(pieces=st.lists(hostile, min_size=1, max_size=6))
def test_hostile_bytes_are_packets_or_malformed_and_nothing_else(version: int, pieces: list[bytes]) -> None:
    decoder, total = Decoder(version), 0
    with contextlib.suppress(Malformed):
        for piece in pieces:
            decoder.feed(piece)
            total += len(piece)
            for packet in decoder:
                if isinstance(packet, Publish):
                    assert len(packet.topic) + len(packet.payload) <= total
                    user_property(packet.properties, MARK)
                    user_properties(packet.properties)


def test_a_text_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="70000 bytes"):
        packets.text("x" * 70_000)


def test_only_success_is_no_refusal_in_an_old_connack() -> None:
    accepted = [code for code in range(256) if reasons.of_old_connack(code) < reasons.FAILED]
    assert accepted == [0]
    assert reasons.words(reasons.of_old_connack(5)) == "Not authorized"
