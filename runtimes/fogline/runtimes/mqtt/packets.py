"""The packets that a client of QoS 0 and 1 sends, as bytes. Pure.

Sources: MQTT 5.0 (OASIS, 2019) and MQTT 3.1.1 (OASIS, 2014), both section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

V5 = 5
V311 = 4
"""Protocol levels, as they stand in CONNECT."""
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
"""Reason 0: a normal goodbye."""
BARE_CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00"
"""Version 5, clean start, no properties, the broker chooses the name."""
LONGEST_TEXT_BYTES = 65_535

_CLEAN, _PASSWORD, _USERNAME = 0x02, 0x40, 0x80
_SESSION_EXPIRY = b"\x11"
_RECEIVE_MAXIMUM = b"\x21"
_USER_PROPERTY = b"\x26"
_ONE_BYTE = [bytes((number,)) for number in range(256)]
_NO_OLD_VALUES = 2 << 4
"""Retain handling of version 5: a subscription brings no retained message."""


@dataclass(frozen=True)
class Connect:
    """What CONNECT asks for (MQTT 5.0, section 3.1)."""

    client_id: str
    keep_alive_s: int
    clean: bool = False
    """Forget what the broker has kept under this client id."""
    session_expiry_s: int = 0
    """How long the broker keeps the session of a client that is away; on 3.1.1 for ever, unless this is 0."""
    receive_maximum: int = 0
    """Most unacknowledged messages taken at once, up to 65535; 0: say nothing; version 5 alone."""
    username: str = ""
    password: str = field(default="", repr=False)

    def to_bytes(self, version: int) -> bytes:
        kept = self.session_expiry_s > 0
        flags = _CLEAN if self.clean or (version == V311 and not kept) else 0
        login = text(self.username) if self.username else b""
        flags |= _USERNAME if self.username else 0
        if self.password:
            login, flags = login + text(self.password), flags | _PASSWORD
        head = text("MQTT") + bytes((version, flags)) + self.keep_alive_s.to_bytes(2, "big")
        if version == V5:
            head += _sized(self._properties())
        return _packet(0x10, head + text(self.client_id) + login)

    def _properties(self) -> bytes:
        properties = b""
        if self.session_expiry_s:
            properties += _SESSION_EXPIRY + self.session_expiry_s.to_bytes(4, "big")
        if self.receive_maximum:
            properties += _RECEIVE_MAXIMUM + min(self.receive_maximum, 65_535).to_bytes(2, "big")
        return properties


class Publisher:
    """Packs PUBLISH, QoS 0 or 1, for one topic; on version 5 with properties."""

    def __init__(self, topic: str, version: int, qos: int = 1) -> None:
        self.topic = topic
        self.qos = qos
        self._topic = text(topic)
        self._v5 = version == V5

    def packet(self, mid: int, properties: bytes, payload: bytes) -> bytes:
        """`properties` stand in the packet as they are, and on 3.1.1 nowhere; `mid` (1 to 65535) comes back in the
        PUBACK, and stands nowhere with QoS 0."""
        head = self._topic + mid.to_bytes(2, "big") if self.qos else self._topic
        if self._v5:
            head += variable_length(len(properties)) + properties
        return (b"\x32" if self.qos else b"\x30") + variable_length(len(head) + len(payload)) + head + payload


def puback(mid: int) -> bytes:
    """The acknowledgement of one message."""
    return b"\x40\x02" + mid.to_bytes(2, "big")


def subscribe(mid: int, topic: str, version: int, qos: int = 1) -> bytes:
    """One subscription; on version 5 without retained messages."""
    options = qos | (_NO_OLD_VALUES if version == V5 else 0)
    properties = b"\0" if version == V5 else b""
    return _packet(0x82, mid.to_bytes(2, "big") + properties + text(topic) + bytes((options,)))


def packed_property(name: str, value: str) -> bytes:
    """One user property as it stands among the properties of a packet."""
    return _USER_PROPERTY + text(name) + text(value)


def unsubscribe(mid: int, topic: str, version: int) -> bytes:
    """The end of one subscription."""
    return _packet(0xA2, mid.to_bytes(2, "big") + (b"\0" if version == V5 else b"") + text(topic))


def user_property_mark(name: str) -> bytes:
    """How a user property of this name begins, up to the length of its value."""
    return _USER_PROPERTY + text(name)


def text(words: str) -> bytes:
    """UTF-8 behind its length. Raises ValueError when it is longer than 65535 bytes."""
    encoded = words.encode()
    if len(encoded) > LONGEST_TEXT_BYTES:
        raise ValueError(f"a text of {len(encoded)} bytes does not fit into a packet")
    return len(encoded).to_bytes(2, "big") + encoded


def variable_length(number: int) -> bytes:
    """A variable byte integer (MQTT 5.0, section 1.5.5)."""
    if number < 128:
        return _ONE_BYTE[number]
    return _ONE_BYTE[number & 127 | 128] + variable_length(number >> 7)


def _sized(body: bytes) -> bytes:
    return variable_length(len(body)) + body


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _sized(body)
