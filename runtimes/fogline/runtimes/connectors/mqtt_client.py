"""One paho client, and what is done to it: the only module that knows paho from inside.

paho keeps the connection (CONNECT, SUBSCRIBE, keep-alive, partial writes, reason codes). The two packets
of the hot path pass it by, because it makes some 60 us of objects for each that nobody looks at:

- PUBLISH and PUBACK are read in `_packet_handle`, and received through a buffer instead of three times;
- packets to be written are joined, so that a batch is one `send`.

For that `Client` overrides `_packet_handle` and `_sock_recv`, and calls `_packet_queue`; these three and
`_in_packet` are all it uses beyond the public interface, alike in paho 2.0, 2.1 and 2.2 (each was run).
`loop_read`, `loop_write` and `loop_misc` are called by the pump's own thread. TCP_NODELAY alone is worth a factor
of twenty.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import MalformedPacket, Properties

from fogline.runtimes.message import ID_PROPERTY
from fogline.runtimes.poller import Poller

log = logging.getLogger("fogline.mqtt")

CONNECT_TIMEOUT_S = 5.0
KEEP_ALIVE_S = 30
SESSION_EXPIRY_S = 604_800
V5 = 5
V311 = 4
"""Protocol levels, as they stand in CONNECT."""
JOINED_BYTES = 64 * 1024
RECEIVED_BYTES = 64 * 1024
_BARE_CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00"
"""Version 5, clean start, no properties, the broker chooses the name."""
_DISCONNECT = b"\xe0\x00"
_ID_MARK = b"\x26" + len(ID_PROPERTY).to_bytes(2, "big") + ID_PROPERTY.encode()
"""A user property of this name, up to its value's length."""


@dataclass(frozen=True)
class Session:
    """What CONNECT asks for (MQTT 5.0, section 3.1)."""

    host: str
    port: int
    client_id: str
    keep: bool
    """The broker keeps subscriptions and messages while we are away (readers)."""
    clean: bool = False
    """Forget what the broker had kept under this client id."""
    receive_maximum: int = 0
    """Most unacknowledged messages we take at once; 0: say nothing."""
    keep_alive_s: int = KEEP_ALIVE_S


def probe(session: Session) -> int:
    """Which version the broker speaks, asked with the barest CONNECT; blocks. Raises OSError.

    A broker of 3.1.1 (amqtt) that is sent version 5 with properties takes them for a long client id and waits
    for the rest for ever; without properties it refuses, or hangs up, which is an answer too.
    """
    with socket.create_connection((session.host, session.port), CONNECT_TIMEOUT_S) as sock:
        sock.sendall(_BARE_CONNECT)
        try:
            answer = sock.recv(4, socket.MSG_WAITALL)
        except ConnectionResetError:
            answer = b""
        if not answer or answer[-1] in (0x01, 0x84):
            return V311
        sock.sendall(_DISCONNECT)
        return V5


class Arrival(NamedTuple):
    """One PUBLISH as it came."""

    topic: str
    payload: bytes
    mid: int
    """Packet id to acknowledge; 0 for QoS 0."""
    redelivered: bool
    retained: bool
    id: str
    """The id in its user properties, or nothing."""


class ClientUser(Protocol):
    """Where a client's arrivals and confirmations go."""

    def on_arrival(self, arrival: Arrival) -> None: ...
    def on_confirmed(self, mid: int, reason: int) -> None: ...


class Client(paho.Client):  # type: ignore[misc]  # paho is not followed by mypy
    """A connection that hands over arrivals and confirmations, and takes joined packets."""

    on_connect: Any
    on_disconnect: Any
    on_subscribe: Any
    on_socket_close: Any

    def __init__(self, session: Session, version: int, user: ClientUser) -> None:
        v5 = version == V5
        super().__init__(
            paho.CallbackAPIVersion.VERSION2,
            session.client_id,
            clean_session=None if v5 else session.clean or not session.keep,
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self.suppress_exceptions = False
        self.connect_timeout = CONNECT_TIMEOUT_S
        self.max_inflight_messages_set(0)
        self.on_socket_open = _no_delay
        self.on_socket_register_write = _queue_only
        self.v5 = v5
        self._on_arrival = user.on_arrival
        self._on_confirmed = user.on_confirmed
        self._received = b""
        self._read_to = 0
        self.emptied = False
        """The last piece that was received was all there was in the socket."""

    @property
    def buffered(self) -> bool:
        """Bytes were received that are not read yet: the poller will not tell."""
        return self._read_to < len(self._received)

    def dial(self, session: Session) -> None:
        """Look up, connect and queue CONNECT; blocks. Raises OSError or ValueError."""
        options: dict[str, Any] = {}
        if self.v5:
            options = {"clean_start": session.clean, "properties": _properties(session)}
        self.connect(session.host, session.port, session.keep_alive_s, **options)

    def drop(self, poller: Poller) -> None:
        """Hang up without a word: what paho has no public call for."""
        self.on_disconnect = None
        self.on_socket_close = None
        sock = self.socket()
        if sock is not None:
            poller.forget(sock)
            sock.close()

    def leave(self, session: Session, poller: Poller, timeout_s: float) -> None:
        """DISCONNECT, then hang up once the broker has: closing a socket that holds unread data resets the
        connection, and with it go the acknowledgements that the broker has not read yet."""
        sock, deadline = self.socket(), time.monotonic() + timeout_s
        self.on_disconnect = None
        self.queue([_DISCONNECT])
        poller.forget(sock)
        try:
            while self.want_write() and self.socket() is not None and time.monotonic() < deadline:
                select.select([], [sock], [], deadline - time.monotonic())
                self.loop_write()
            sock.shutdown(socket.SHUT_WR)
            while (left_s := deadline - time.monotonic()) > 0:
                sock.settimeout(left_s)
                if not sock.recv(RECEIVED_BYTES):
                    break
        except OSError as error:
            log.info("broker %s:%s was gone before we had disconnected: %s", session.host, session.port, error)
        self.drop(poller)

    def queue(self, packets: Sequence[bytes]) -> None:
        """Queue whole packets, joined into pieces of some size; `loop_write` writes them."""
        piece, size = list[bytes](), 0
        for packet in packets:
            piece.append(packet)
            size += len(packet)
            if size >= JOINED_BYTES:
                self._packet_queue(paho.PUBACK, b"".join(piece), 0, 1)
                piece, size = [], 0
        if piece:
            self._packet_queue(paho.PUBACK, b"".join(piece), 0, 1)

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self.buffered:
            wanted = max(bufsize, RECEIVED_BYTES)
            self._received = super()._sock_recv(wanted)
            self._read_to = 0
            self.emptied = len(self._received) < wanted
        start = self._read_to
        self._read_to = min(start + bufsize, len(self._received))
        return self._received[start : self._read_to]

    def _packet_handle(self) -> Any:
        command, packet = self._in_packet["command"], self._in_packet["packet"]
        kind = command & 0xF0
        try:
            if kind == paho.PUBLISH:
                self._on_arrival(_read_publish(command, packet, self.v5))
                return paho.MQTT_ERR_SUCCESS
            if kind == paho.PUBACK:
                self._on_confirmed(packet[0] << 8 | packet[1], packet[2] if len(packet) > 2 else 0)
                return paho.MQTT_ERR_SUCCESS
        except (IndexError, UnicodeDecodeError) as error:
            raise MalformedPacket(str(error)) from error
        return super()._packet_handle()


class Publisher:
    """Packs PUBLISH packets, QoS 1, for one topic; on version 5 with the record's id."""

    def __init__(self, topic: str, *, v5: bool) -> None:
        name = topic.encode()
        self._topic = len(name).to_bytes(2, "big") + name
        self._v5 = v5

    def packet(self, mid: int, ident: str, payload: bytes) -> bytes:
        head = self._topic + mid.to_bytes(2, "big")
        if self._v5:
            value = ident.encode()
            body = _ID_MARK + len(value).to_bytes(2, "big") + value
            head += _variable_length(len(body)) + body
        return b"\x32" + _variable_length(len(head) + len(payload)) + head + payload


def puback(mid: int) -> bytes:
    """The acknowledgement of one message."""
    return b"\x40\x02" + mid.to_bytes(2, "big")


def _read_publish(command: int, packet: bytearray, v5: bool) -> Arrival:
    place = 2 + (packet[0] << 8 | packet[1])
    topic = packet[2:place].decode()
    mid, ident = 0, ""
    if command & 0x06:
        mid = packet[place] << 8 | packet[place + 1]
        place += 2
    if v5:
        length, start = _read_length(packet, place)
        place = start + length
        if length:
            ident = _read_id(packet[start:place])
    payload = bytes(memoryview(packet)[place:])
    return Arrival(topic, payload, mid, bool(command & 0x08), bool(command & 0x01), ident)


def _read_id(properties: bytearray) -> str:
    """Found by its mark. A foreign property that happens to contain it would only give an odd id."""
    mark = properties.find(_ID_MARK)
    if mark < 0:
        return ""
    start = mark + len(_ID_MARK) + 2
    return properties[start : start + (properties[start - 2] << 8 | properties[start - 1])].decode()


def _read_length(packet: bytearray, place: int) -> tuple[int, int]:
    length = shift = 0
    while packet[place] & 0x80:
        length |= (packet[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return length | packet[place] << shift, place + 1


def _variable_length(number: int) -> bytes:
    if number < 128:
        return bytes((number,))
    return bytes((number & 127 | 128,)) + _variable_length(number >> 7)


def _properties(session: Session) -> Any:
    properties = Properties(PacketTypes.CONNECT)
    if session.keep:
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
    if session.receive_maximum:
        properties.ReceiveMaximum = min(session.receive_maximum, 65535)
    return properties


def _no_delay(_client: Any, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _queue_only(_client: Any, _data: Any, _sock: Any) -> None:
    """That a callback is set keeps paho from writing by itself."""
