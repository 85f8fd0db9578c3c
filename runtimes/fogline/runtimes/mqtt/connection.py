"""One MQTT connection over one socket, driven by whoever polls it; nothing here waits but `dial` and `leave`.

The hot path is PUBLISH and PUBACK: what arrived in one piece is read in one `recv`, what is queued together is
written in one `send`. The connection keeps no message and no subscription: when it is lost, its user begins
with a fresh one.
"""

from __future__ import annotations

import collections
import logging
import select
import socket
import ssl
import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fogline.runtimes.mqtt import packets, reasons
from fogline.runtimes.mqtt.decoder import (
    Connack,
    Decoder,
    Disconnect,
    Malformed,
    Packet,
    Puback,
    Publish,
    Suback,
    Unsuback,
)
from fogline.runtimes.mqtt.packets import V5, V311, Connect, Publisher

log = logging.getLogger("fogline.mqtt")

CONNECT_TIMEOUT_S = 5.0
JOINED_BYTES = 64 * 1024
RECEIVED_BYTES = 64 * 1024
"""More than a record of TLS holds, so that none is left half-read inside the library."""
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True)
class Peer:
    """Where the broker is, and who we are to it."""

    host: str
    port: int
    wish: Connect
    tls: ssl.SSLContext | None = None

    def dialed(self) -> socket.socket:
        """A connection to the broker; blocks. Raises OSError."""
        sock = socket.create_connection((self.host, self.port), CONNECT_TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is None:
            return sock
        try:
            return self.tls.wrap_socket(sock, server_hostname=self.host)
        except OSError as error:
            sock.close()
            raise OSError(0, f"the TLS handshake failed: {words_of(error)}") from None


class User(Protocol):
    """What a connection tells; called from `read`, `write` and `tick` alone."""

    def on_connack(self, connack: Connack) -> None: ...
    def on_publish(self, publish: Publish) -> None: ...
    def on_puback(self, mid: int, reason: int) -> None: ...
    def on_suback(self, mid: int, refused: Sequence[int]) -> None: ...
    def on_unsuback(self, mid: int) -> None: ...
    def on_disconnect(self, reason: int) -> None:
        """The broker said so. The connection is over."""

    def on_lost(self, words: str) -> None:
        """The connection ended without a word of the broker, or because of what it sent. It is over."""


class Connection:
    """`dial`, then `read` and `write` when the socket is ready for it, and `tick` now and then."""

    def __init__(self, peer: Peer, version: int, user: User) -> None:
        self.peer = peer
        self.version = version
        self.paused = False
        """Read nothing more for now: what was received stays here, the rest in the socket."""
        self._user = user
        self._on_publish, self._on_puback = user.on_publish, user.on_puback
        self._decoder = Decoder(version)
        self.sock: socket.socket | None = None
        """None before `dial` and once the connection is over."""
        self.unsent = collections.deque[bytes]()
        """What waits until the socket takes it."""
        self._mid = 0
        self._keep_alive_s = float(peer.wish.keep_alive_s)
        self._sent_at = self._heard_at = 0.0
        self._ping_at = 0.0
        """Since when a PINGRESP is owed; 0: none is."""

    @property
    def pinging(self) -> bool:
        """A ping is not answered yet."""
        return self._ping_at > 0

    def dial(self) -> None:
        """Look up, connect and queue CONNECT; blocks. Raises OSError or ValueError."""
        self._queue((self.peer.wish.to_bytes(self.version),))
        sock = self.peer.dialed()
        sock.setblocking(False)
        self.sock = sock

    def drop(self) -> None:
        """Hang up without a word; the user is not told."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def leave(self, timeout_s: float) -> None:
        """DISCONNECT, then hang up once the broker has: closing a socket that holds unread data resets the
        connection, and with it go the acknowledgements that the broker has not read yet."""
        deadline = time.monotonic() + timeout_s
        self._queue((packets.DISCONNECT,))
        sock = self.sock
        try:
            while sock is not None and self.unsent and time.monotonic() < deadline:
                select.select([], [sock], [], deadline - time.monotonic())
                self._send(sock)
            if sock is not None:
                await_end(sock, deadline)
        except OSError as error:
            log.info("broker %s:%s was gone before we had disconnected: %s", self.peer.host, self.peer.port, error)
        self.drop()

    # What is to be written: each only queues -------------------------------------------------------

    def publish(
        self, publisher: Publisher, records: Iterable[tuple[bytes, bytes]], open_mids: Container[int]
    ) -> list[int]:
        """Queue one PUBLISH for each (properties, payload); returns the packet ids, none of which is in `open_mids`."""
        mids, packed = list[int](), list[bytes]()
        for properties, payload in records:
            mid = self._free_mid(open_mids)
            mids.append(mid)
            packed.append(publisher.packet(mid, properties, payload))
        self._queue(packed)
        return mids

    def ack(self, mids: Iterable[int]) -> None:
        """Queue one PUBACK each, in this order."""
        self._queue([packets.puback(mid) for mid in mids])

    def subscribe(self, topic: str, qos: int) -> int:
        """Queue a SUBSCRIBE; returns its packet id."""
        mid = self._free_mid(())
        self._queue((packets.subscribe(mid, topic, self.version, qos),))
        return mid

    def unsubscribe(self, topic: str) -> int:
        """Queue an UNSUBSCRIBE; returns its packet id."""
        mid = self._free_mid(())
        self._queue((packets.unsubscribe(mid, topic, self.version),))
        return mid

    def ping(self) -> None:
        """Queue a PINGREQ, unless one is under way."""
        if not self._ping_at:
            self._ping_at = time.monotonic()
            self._queue((packets.PINGREQ,))

    # Driving ----------------------------------------------------------------------------------------

    def read(self) -> None:
        """Hand over all packets that have arrived, until `paused`."""
        decoder, sock, emptied = self._decoder, self.sock, False
        try:
            while sock is not None and sock is self.sock:
                for packet in decoder:
                    self._take(packet)
                    if self.paused or self.sock is None:
                        return
                if emptied:
                    return  # what comes next makes the socket ready again
                data = sock.recv(RECEIVED_BYTES)
                if not data:
                    self._over("connection lost")
                    return
                self._heard_at = time.monotonic()
                emptied = len(data) < RECEIVED_BYTES
                decoder.feed(data)
        except _NOT_NOW:
            return
        except (OSError, Malformed) as error:
            self._over(f"sent {error}" if isinstance(error, Malformed) else words_of(error))

    def write(self) -> None:
        """Write what is queued, as far as the socket takes it."""
        try:
            if self.sock is not None:
                self._send(self.sock)
        except OSError as error:
            self._over(words_of(error))

    def tick(self) -> None:
        """Keep the connection alive, and find out that it is not; to be called every quarter of the keep-alive.

        While `paused` an answer may be here and unread: then its absence proves nothing.
        """
        now = time.monotonic()
        if self.paused:
            self._ping_at = 0.0
            if not self.unsent:
                self.ping()
        elif self._ping_at and now - max(self._ping_at, self._heard_at) >= self._keep_alive_s:
            self._over(f"no answer to a ping for {self._keep_alive_s:g} s")
        elif now - min(self._sent_at, self._heard_at) >= self._keep_alive_s / 2:
            self.ping()

    def _take(self, packet: Packet) -> None:
        if type(packet) is Publish:
            self._on_publish(packet)
        elif type(packet) is Puback:
            self._on_puback(packet.mid, packet.reason)
        elif isinstance(packet, Connack):
            self._connected(packet)
        elif isinstance(packet, Suback):
            self._user.on_suback(packet.mid, [each for each in packet.reasons if each >= reasons.FAILED])
        elif isinstance(packet, Unsuback):
            self._user.on_unsuback(packet.mid)
        elif isinstance(packet, Disconnect):
            self.drop()
            self._user.on_disconnect(packet.reason)
        else:
            self._ping_at = 0.0

    def _connected(self, connack: Connack) -> None:
        if connack.keep_alive_s:
            self._keep_alive_s = float(connack.keep_alive_s)
        if self.version == V311:
            connack = connack._replace(reason=reasons.of_old_connack(connack.reason))
        self._user.on_connack(connack)

    def _free_mid(self, open_mids: Container[int]) -> int:
        """Packet ids go round; one that is still open is passed over."""
        mid = self._mid % 65_535 + 1
        while mid in open_mids:
            mid = mid % 65_535 + 1
        self._mid = mid
        return mid

    def _queue(self, packed: Sequence[bytes]) -> None:
        """Joined into pieces of some size, so that a batch is one `send`."""
        piece, size = list[bytes](), 0
        for packet in packed:
            piece.append(packet)
            size += len(packet)
            if size >= JOINED_BYTES:
                self.unsent.append(b"".join(piece))
                piece, size = [], 0
        if piece:
            self.unsent.append(b"".join(piece))

    def _send(self, sock: socket.socket) -> None:
        while self.unsent:
            piece = self.unsent[0]
            try:
                sent = sock.send(piece)
            except _NOT_NOW:
                return
            self._sent_at = time.monotonic()
            if sent < len(piece):
                self.unsent[0] = piece[sent:]
                return
            self.unsent.popleft()

    def _over(self, words: str) -> None:
        self.drop()
        self._user.on_lost(words)


def words_of(error: OSError) -> str:
    """What the operating system or the TLS library says, without numbers and source lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)


def probe(peer: Peer) -> int:
    """Which version the broker speaks, asked with the barest CONNECT; blocks. Raises OSError.

    A broker of 3.1.1 (amqtt) that is sent version 5 with properties takes them for a long client id and waits
    for the rest for ever; without properties it refuses, or hangs up, which is an answer too.
    """
    with peer.dialed() as sock:
        sock.sendall(packets.BARE_CONNECT)
        try:
            answer = received = sock.recv(4)
            while received and len(answer) < 4:
                received = sock.recv(4 - len(answer))
                answer += received
        except ConnectionResetError:
            answer = b""
        if not answer or answer[-1] in (0x01, reasons.UNSUPPORTED_VERSION):
            return V311
        sock.sendall(packets.DISCONNECT)
        return V5


def await_end(sock: socket.socket, deadline: float) -> None:
    """Say that nothing more comes, and wait for the other side to hang up. Raises OSError."""
    sock.shutdown(socket.SHUT_WR)
    while (left_s := deadline - time.monotonic()) > 0:
        sock.settimeout(left_s)
        if not sock.recv(RECEIVED_BYTES):
            return
