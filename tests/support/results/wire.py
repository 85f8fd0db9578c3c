"""Just enough of MQTT 5 for a producer and a collector that cost little beside what they measure.

Written from the specification, and sharing nothing with Fogline's own connector.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator

CONNACK, PUBLISH, PUBACK, SUBACK = 2, 3, 4, 9
BLOCK_BYTES = 65536
ANSWER_S = 10.0


class Gone(Exception):
    """The broker is away, or hung up."""


class Wire:
    """One connection. Raises Gone when it cannot be made, and from then on when it breaks."""

    def __init__(self, port: int, client_id: str = "", *, keep_s: int = 0) -> None:
        """`keep_s`: how long the broker keeps the session when we are away; 0 for none."""
        try:
            self._sock = socket.create_connection(("127.0.0.1", port), ANSWER_S)
        except OSError as error:
            raise Gone(str(error)) from error
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._early: list[tuple[int, int, bytes]] = []
        """What came along with an answer that was waited for: of a kept session, records."""
        clean = b"\x00" if keep_s else b"\x02"
        properties = b"\x11" + keep_s.to_bytes(4) + b"\x21" + (1000).to_bytes(2)
        head = b"\x00\x04MQTT\x05" + clean + b"\x00\x00" + _sized(properties)
        self.send(b"\x10" + _sized(head + _text(client_id)))
        self._await(CONNACK)

    def subscribe(self, topic: str) -> None:
        """With QoS 1."""
        self.send(b"\x82" + _sized(b"\x00\x01\x00" + _text(topic) + b"\x01"))
        self._await(SUBACK)

    def send(self, data: bytes) -> None:
        """Write all of it."""
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def packets(self, timeout_s: float) -> list[tuple[int, int, bytes]]:
        """(type, flags, body) of what has come; empty when nothing whole came in time."""
        early, self._early = self._early, []
        return early or self._receive(timeout_s)

    def _receive(self, timeout_s: float) -> list[tuple[int, int, bytes]]:
        try:
            if not select.select([self._sock], [], [], timeout_s)[0]:
                return []
            block = self._sock.recv(BLOCK_BYTES)
        except (OSError, ValueError) as error:
            raise Gone(str(error)) from error
        if not block:
            raise Gone("the broker hung up")
        data = self._rest + block
        found, place = [], 0
        for kind, flags, start, end in _split(data):
            found.append((kind, flags, data[start:end]))
            place = end
        self._rest = data[place:]
        return found

    def close(self) -> None:
        """Say goodbye and hang up."""
        with contextlib.suppress(OSError):  # it is closed already
            self._sock.sendall(b"\xe0\x00")
        self._sock.close()

    def _await(self, wanted: int) -> None:
        deadline = time.monotonic() + ANSWER_S
        while (left_s := deadline - time.monotonic()) > 0:
            found = self._receive(left_s)
            answers = [body for kind, _, body in found if kind == wanted]
            self._early += [packet for packet in found if packet[0] != wanted]
            if answers:
                if wanted == CONNACK and answers[0][1] != 0:
                    raise Gone(f"refused with reason {answers[0][1]:#04x}")
                return
        raise Gone(f"no answer within {ANSWER_S} s")


def publish_packet(topic: bytes, mid: int, payload: bytes) -> bytes:
    """PUBLISH, QoS 1; `topic` as `topic_field` gives it."""
    return b"\x32" + _sized(b"".join((topic, mid.to_bytes(2), b"\x00", payload)))


def topic_field(topic: str) -> bytes:
    """A topic as it stands in packets."""
    return _text(topic)


def puback_packet(mid: int) -> bytes:
    """PUBACK, success."""
    return b"\x40\x02" + mid.to_bytes(2)


def read_publish(flags: int, body: bytes) -> tuple[int, bytes]:
    """Packet id (0 for QoS 0) and payload."""
    place = 2 + int.from_bytes(body[:2])
    mid = 0
    if flags & 0x06:
        mid = int.from_bytes(body[place : place + 2])
        place += 2
    length, place = _length(body, place)
    return mid, body[place + length :]


def read_puback(body: bytes) -> tuple[int, int]:
    """Packet id and reason code."""
    return int.from_bytes(body[:2]), body[2] if len(body) > 2 else 0


def _split(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(type, flags, start, end) of every whole packet."""
    place = 0
    while place + 1 < len(data):
        try:
            length, start = _length(data, place + 1)
        except IndexError:  # not all of its length is there
            return
        if start + length > len(data):
            return
        yield data[place] >> 4, data[place] & 0x0F, start, start + length
        place = start + length


def _length(data: bytes, place: int) -> tuple[int, int]:
    length = shift = 0
    while data[place] & 0x80:
        length |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return length | data[place] << shift, place + 1


def _sized(body: bytes) -> bytes:
    number, head = len(body), b""
    while number >= 128:
        head += bytes((number & 127 | 128,))
        number >>= 7
    return head + bytes((number,)) + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2) + text.encode()
