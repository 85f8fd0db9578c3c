"""The leanest MQTT 3.1.1 client: feeds, reads, relays, a batch of packets per system call.

What feeds and reads every program under test, so that the load costs them little; and, as a relay that
does nothing with what it relays, the limit of the broker.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence

CONNACK, PUBLISH, PUBACK, SUBACK = 0x20, 0x30, 0x40, 0x90
DEADLINE_S = 60.0
CHUNK_BYTES = 1 << 18
WINDOW = 1000
"""Publishes without their acknowledgement."""


class RawClient:
    """One blocking connection. A `client_id` keeps its session; without one it begins afresh."""

    def __init__(self, port: int, client_id: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._number = 0
        self.acknowledged = 0
        """Of own publishes."""
        flags = 0 if client_id else 2
        self._socket.sendall(_packet(0x10, _text("MQTT") + bytes([4, flags, 0, 0]) + _text(client_id)))
        self._expect(CONNACK)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._socket.sendall(b"\xe0\x00")
        finally:
            self._socket.close()

    def subscribe(self, topic: str) -> None:
        """QoS 1, before anything can come; returns when the broker has confirmed."""
        self._socket.sendall(_packet(0x82, b"\x00\x01" + _text(topic) + b"\x01"))
        self._expect(SUBACK)

    def publish_all(self, topic: str, payloads: Sequence[bytes]) -> None:
        """QoS 1, at most WINDOW unacknowledged; returns when all are acknowledged."""
        before = self.acknowledged
        sent = 0
        while self.acknowledged - before < len(payloads):
            room = WINDOW - (sent - (self.acknowledged - before))
            if room > 0 and sent < len(payloads):
                self.send(topic, payloads[sent : sent + room])
                sent += min(room, len(payloads) - sent)
            self.receive()

    def send(self, topic: str, payloads: Sequence[bytes]) -> None:
        """Publish without waiting for any acknowledgement."""
        head = _text(topic)
        out = []
        for payload in payloads:
            self._number = self._number % 65535 + 1
            out.append(_packet(0x32, head + struct.pack(">H", self._number) + payload))
        self._socket.sendall(b"".join(out))

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Of messages received."""
        self._socket.sendall(b"".join(struct.pack(">BBH", PUBACK, 2, number) for number in numbers))

    def receive(self) -> list[tuple[int, bytes]]:
        """What one `recv` brought: number and payload of each message; acknowledgements are counted."""
        data = self._rest
        if _body(data, 0) is None:
            data += self._read()
        at, found = 0, []
        while (body := _body(data, at)) is not None:
            start, end = body
            if data[at] & 0xF0 == PUBLISH:
                skip = start + 2 + int.from_bytes(data[start : start + 2])
                found.append((int.from_bytes(data[skip : skip + 2]), data[skip + 2 : end]))
            elif data[at] == PUBACK:
                self.acknowledged += 1
            at = end
        self._rest = data[at:]
        return found

    def collect(self, count: int, until_s: float = DEADLINE_S) -> tuple[list[bytes], list[float]]:
        """`count` messages, each acknowledged, and when (perf_counter) each had come."""
        payloads: list[bytes] = []
        times: list[float] = []
        deadline = time.perf_counter() + until_s
        while len(payloads) < count:
            messages = self.receive()
            now = time.perf_counter()
            if now > deadline:
                raise TimeoutError(f"{len(payloads)} of {count} messages came within {until_s:g} s")
            if messages:
                self.acknowledge([number for number, _ in messages])
                payloads += [payload for _, payload in messages]
                times += [now] * len(messages)
        return payloads, times

    def drive(
        self, topic: str, payloads: Sequence[bytes], between: int, records_in: Callable[[bytes], int]
    ) -> tuple[list[bytes], list[float]]:
        """Feed a program and read what it makes of it, until as many records came back as `payloads` hold; like
        `collect`. At most `between` messages, each as full as the first, are under way."""
        made: list[bytes] = []
        times: list[float] = []
        sent, back, total, each = 0, 0, sum(map(records_in, payloads)), records_in(payloads[0])
        while back < total:
            fresh = payloads[sent : back // each + between]
            if fresh:
                self.send(topic, fresh)
                sent += len(fresh)
            messages = self.receive()
            if messages:
                self.acknowledge([number for number, _ in messages])
                made += [payload for _, payload in messages]
                times += [time.perf_counter()] * len(messages)
                back += sum([records_in(payload) for _, payload in messages])
        return made, times

    def relay(self, topic: str) -> None:
        """What comes goes to `topic`, and is acknowledged when that is confirmed; for ever, or until OSError."""
        waiting: list[int] = []
        settled = self.acknowledged
        while True:
            messages = self.receive()
            if messages:
                self.send(topic, [payload for _, payload in messages])
                waiting += [number for number, _ in messages]
            confirmed = self.acknowledged - settled
            if confirmed:
                self.acknowledge(waiting[:confirmed])
                del waiting[:confirmed]
                settled = self.acknowledged

    def _read(self) -> bytes:
        data = self._socket.recv(CHUNK_BYTES)
        if not data:
            raise ConnectionResetError("the broker hung up")
        return data

    def _expect(self, kind: int) -> None:
        data = self._read()
        assert data[0] == kind, f"the broker answered {data!r}"
        body = _body(data, 0)
        assert body is not None
        self._rest = data[body[1] :]


def make_session(port: int, client_id: str, topic: str) -> None:
    """A reader's session that collects from now on, for whoever connects under this id."""
    with RawClient(port, client_id) as client:
        client.subscribe(topic)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _packet(head: int, body: bytes) -> bytes:
    length, out = len(body), bytearray([head])
    while True:
        length, low = divmod(length, 128)
        out.append(low | (128 if length else 0))
        if not length:
            return bytes(out) + body


def _body(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at `at` begins and ends; None while it is not whole."""
    length, shift, here = 0, 0, at + 1
    while here < len(data):
        byte = data[here]
        length |= (byte & 127) << shift
        here, shift = here + 1, shift + 7
        if byte < 128:
            return (here, here + length) if here + length <= len(data) else None
    return None
