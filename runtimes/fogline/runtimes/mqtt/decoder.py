"""Bytes of a broker to the packets that a client of QoS 0 and 1 gets. Pure.

Whatever arrives: the packets in it, or Malformed, or a wait for the rest. Nothing is believed about a length
before the bytes are there.

Sources: MQTT 5.0 (OASIS, 2019) and MQTT 3.1.1 (OASIS, 2014), both section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fogline.runtimes.mqtt.packets import V5

MOST_INFLIGHT = 65_535
"""The receive maximum where CONNACK names none."""


class Malformed(Exception):
    """The bytes are no MQTT that a broker may send: what follows cannot be told apart any more."""


class Connack(NamedTuple):
    session_present: bool
    reason: int
    receive_maximum: int = MOST_INFLIGHT
    keep_alive_s: int | None = None
    """What the broker wants instead of what CONNECT said."""


class Publish(NamedTuple):
    topic: str
    payload: bytes
    mid: int
    """Packet id to acknowledge; 0 for QoS 0."""
    redelivered: bool
    retained: bool
    properties: bytes
    """As they came; empty on 3.1.1."""


class Puback(NamedTuple):
    mid: int
    reason: int


class Suback(NamedTuple):
    mid: int
    reasons: bytes


class Unsuback(NamedTuple):
    mid: int


class Pingresp(NamedTuple):
    pass


class Disconnect(NamedTuple):
    reason: int


Packet = Connack | Publish | Puback | Suback | Unsuback | Pingresp | Disconnect


class Decoder:
    """`feed` what arrives, then iterate over the packets that are whole; stopping in between loses nothing."""

    def __init__(self, version: int) -> None:
        self._v5 = version == V5
        self._buffer = b""
        self._at = 0
        self._pieces: list[bytes] = []
        self._missing = 0
        """Bytes that `_pieces` still lack before another packet can be whole."""

    def feed(self, data: bytes) -> None:
        """Append bytes in the order of their arrival."""
        if len(data) < self._missing:
            self._pieces.append(data)
            self._missing -= len(data)
            return
        rest = self._buffer[self._at :] if self._at < len(self._buffer) else b""
        self._buffer = b"".join((rest, *self._pieces, data)) if rest else data
        self._pieces.clear()
        self._at = self._missing = 0

    def __iter__(self) -> Decoder:
        return self

    def __next__(self) -> Packet:
        """The next whole packet. Raises StopIteration until there is one, and Malformed."""
        buffer, at = self._buffer, self._at
        have = len(buffer)
        if at + 2 > have or self._missing:
            raise StopIteration
        length, body = buffer[at + 1], at + 2
        if length > 127:
            length, body = _length(buffer, at + 1, have)
            if not body:
                raise StopIteration
        end = body + length
        if end > have:
            self._missing = end - have
            raise StopIteration
        self._at = end
        first = buffer[at]
        if first & 0xF0 == 0x30:
            return self._publish(first, buffer, body, end)
        if first == 0x40:
            if length < 2:
                raise Malformed("a PUBACK without packet id")
            return Puback(buffer[body] << 8 | buffer[body + 1], buffer[body + 2] if length > 2 else 0)
        return self._rare(first, buffer[body:end])

    def _publish(self, first: int, buffer: bytes, body: int, end: int) -> Publish:
        place = body + 2
        if place <= end:
            place += buffer[body] << 8 | buffer[body + 1]
        topic_end, mid, properties = place, 0, b""
        if first & 0x06:
            place += 2
            if first & 0x04:
                raise Malformed("a PUBLISH of QoS 2, which was not subscribed to")
            if place <= end:
                mid = buffer[place - 2] << 8 | buffer[place - 1]
            if not mid:
                raise Malformed("a PUBLISH of QoS 1 without packet id")
        if self._v5 and place < end:
            size, start = _length(buffer, place, end)
            place = start + size
            if not start or place > end:
                raise Malformed("a PUBLISH shorter than its properties")
            properties = buffer[start:place]
        elif self._v5:
            place += 1
        if place > end:
            raise Malformed("a PUBLISH shorter than its topic")
        topic = _text(buffer[body + 2 : topic_end])
        return Publish(topic, buffer[place:end], mid, bool(first & 0x08), bool(first & 0x01), properties)

    def _rare(self, first: int, body: bytes) -> Packet:
        read = _RARE.get(first)
        if read is None:
            raise Malformed(f"a packet that begins with {first:#04x}")
        try:
            return read(body, self._v5)
        except IndexError:
            raise Malformed(f"a packet that begins with {first:#04x} ends too early") from None


def _connack(body: bytes, v5: bool) -> Connack:
    present, reason = bool(body[0] & 1), body[1]
    found = _properties(body, 2) if v5 and len(body) > 2 else {}
    return Connack(present, reason, found.get(_RECEIVE_MAXIMUM, 0) or MOST_INFLIGHT, found.get(_SERVER_KEEP_ALIVE))


def _suback(body: bytes, v5: bool) -> Suback:
    place = 2
    if v5:
        size, start = _length(body, 2, len(body))
        place = start + size
        if not start:
            raise IndexError
    reasons = body[place:]
    if not reasons:
        raise IndexError
    return Suback(body[0] << 8 | body[1], reasons)


def _unsuback(body: bytes, _v5: bool) -> Unsuback:
    return Unsuback(body[0] << 8 | body[1])


def _disconnect(body: bytes, _v5: bool) -> Disconnect:
    return Disconnect(body[0] if body else 0)


def _pingresp(_body: bytes, _v5: bool) -> Pingresp:
    return Pingresp()


_RARE: dict[int, Callable[[bytes, bool], Packet]] = {
    0x20: _connack,
    0x90: _suback,
    0xB0: _unsuback,
    0xD0: _pingresp,
    0xE0: _disconnect,
}

_RECEIVE_MAXIMUM = 0x21
_SERVER_KEEP_ALIVE = 0x13
_SUBSCRIPTION, _USER_PROPERTY = 0x0B, 0x26
_NUMBERS = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), 2),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4),
}
"""Property -> bytes of its number (MQTT 5.0, section 2.2.2.2)."""
_TEXTS = {0x03: 1, 0x08: 1, 0x09: 1, 0x12: 1, 0x15: 1, 0x16: 1, 0x1A: 1, 0x1C: 1, 0x1F: 1, 0x26: 2}
"""Property -> how many texts, or byte strings, it holds."""


def _properties(body: bytes, at: int) -> dict[int, int]:
    """The numbers among the properties at `at`. Raises IndexError when they end too early, and Malformed."""
    size, place = _length(body, at, len(body))
    end, found = place + size, dict[int, int]()
    if not place or end > len(body):
        raise IndexError
    while place < end:
        name = body[place]
        place += 1
        if name in _NUMBERS:
            found[name] = int.from_bytes(body[place : place + _NUMBERS[name]], "big")
            place += _NUMBERS[name]
        elif name in _TEXTS:
            for _ in range(_TEXTS[name]):
                place += 2 + (body[place] << 8 | body[place + 1])
        else:
            raise Malformed(f"a property {name:#04x}")
    if place != end:
        raise IndexError
    return found


def user_property(properties: bytes, mark: bytes) -> bytes:
    """The value of the first user property that begins with `mark`; empty without one.

    Found by its mark: a foreign property that happens to contain that would only give an odd value.
    """
    at = properties.find(mark)
    if at < 0:
        return b""
    start = at + len(mark) + 2
    return properties[start : start + int.from_bytes(properties[start - 2 : start], "big")]


def user_properties(properties: bytes) -> list[tuple[str, str]]:
    """Name and value of each user property, in order, up to the first byte that makes no sense."""
    found, place = list[tuple[str, str]](), 0
    while place < len(properties):
        kind = properties[place]
        place += 1
        if kind in _NUMBERS:
            place += _NUMBERS[kind]
        elif kind == _SUBSCRIPTION:
            while place < len(properties) and properties[place] & 0x80:
                place += 1
            place += 1
        elif kind in _TEXTS:
            texts = list[str]()
            for _ in range(_TEXTS[kind]):
                size = int.from_bytes(properties[place : place + 2], "big")
                texts.append(properties[place + 2 : place + 2 + size].decode(errors="replace"))
                place += 2 + size
            if kind == _USER_PROPERTY and place <= len(properties):
                found.append((texts[0], texts[1]))
        else:
            break
    return found


def _length(buffer: bytes, at: int, end: int) -> tuple[int, int]:
    """The variable byte integer at `at` and where it ends; (0, 0) when it goes on behind `end`."""
    number = 0
    for shift, place in zip((0, 7, 14, 21), range(at, end), strict=False):
        number |= (buffer[place] & 0x7F) << shift
        if buffer[place] < 128:
            return number, place + 1
    if end - at >= 4:
        raise Malformed("a length of more than four bytes")
    return 0, 0


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"a text that is not UTF-8: {error.reason}") from None
