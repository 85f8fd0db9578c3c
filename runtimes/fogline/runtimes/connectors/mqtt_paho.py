"""paho as the client of an MQTT queue (`props.client: paho`): the same contract through its public interface.

For a broker that our own client does not get on with. It is several times slower: paho makes some 60 us of objects
for each message and receives it in three pieces.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Container, Iterable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from fogline.runtimes.mqtt import packets
from fogline.runtimes.mqtt.connection import CONNECT_TIMEOUT_S, Peer, User, await_end
from fogline.runtimes.mqtt.decoder import MOST_INFLIGHT, Connack, Publish, user_properties
from fogline.runtimes.mqtt.packets import V5, V311, Publisher

log = logging.getLogger("fogline.mqtt")

_RETAINED_IGNORED = 2


class PahoConnection:
    """What `fogline.runtimes.mqtt.connection.Connection` says of each method holds here too."""

    def __init__(self, peer: Peer, version: int, user: User) -> None:
        self.peer = peer
        self.version = version
        self.paused = False
        self._user = user
        self._events = 0
        wish = peer.wish
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            wish.client_id,
            clean_session=wish.clean or not wish.session_expiry_s if version == V311 else None,
            protocol=paho.MQTTv5 if version == V5 else paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if wish.username:
            self._client.username_pw_set(wish.username, wish.password or None)
        if peer.tls is not None:
            self._client.tls_set_context(peer.tls)
        self._client.suppress_exceptions = False
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(0)
        self._client.on_socket_open = _no_delay
        self._client.on_socket_register_write = _queue_only
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = self._on_unsubscribe

    @property
    def sock(self) -> Any:
        return self._client.socket()

    @property
    def unsent(self) -> bool:
        return bool(self._client.want_write())

    def dial(self) -> None:
        wish, options = self.peer.wish, dict[str, Any]()
        if self.version == V5:
            properties = Properties(PacketTypes.CONNECT)
            if wish.session_expiry_s:
                properties.SessionExpiryInterval = wish.session_expiry_s
            if wish.receive_maximum:
                properties.ReceiveMaximum = min(wish.receive_maximum, MOST_INFLIGHT)
            options = {"clean_start": wish.clean, "properties": properties}
        self._client.connect(self.peer.host, self.peer.port, wish.keep_alive_s, **options)

    def drop(self) -> None:
        self._client.on_disconnect = None
        if self.sock is not None:
            self.sock.close()

    def leave(self, timeout_s: float) -> None:
        sock, deadline = self.sock, time.monotonic() + timeout_s
        self._client.on_disconnect = None
        try:
            while self.unsent and self.sock is not None and time.monotonic() < deadline:
                select.select([], [sock], [], deadline - time.monotonic())
                self._client.loop_write()
            sock.send(packets.DISCONNECT)
            await_end(sock, deadline)
        except OSError as error:
            log.info("broker %s:%s was gone before we had disconnected: %s", self.peer.host, self.peer.port, error)
        self.drop()

    def publish(
        self, publisher: Publisher, records: Iterable[tuple[bytes, bytes]], open_mids: Container[int]
    ) -> list[int]:
        return [
            self._client.publish(publisher.topic, payload, publisher.qos, properties=self._properties(properties)).mid
            for properties, payload in records
        ]

    def ack(self, mids: Iterable[int]) -> None:
        for mid in mids:
            self._client.ack(mid, 1)

    def subscribe(self, topic: str, qos: int) -> int:
        wish: dict[str, Any] = {"qos": qos}
        if self.version == V5:
            wish = {"options": SubscribeOptions(qos=qos, retainHandling=_RETAINED_IGNORED)}
        _result, mid = self._client.subscribe(topic, **wish)
        return int(mid)

    def unsubscribe(self, topic: str) -> int:
        _result, mid = self._client.unsubscribe(topic)
        return int(mid or 0)

    def read(self) -> None:
        """paho reads one packet per call and does not say whether it did."""
        while self.sock is not None and not self.paused:
            before = self._events
            self._client.loop_read()
            if self._events == before:
                return

    def write(self) -> None:
        self._client.loop_write()

    def tick(self) -> None:
        """While paused, paho could not see a PINGRESP and would hang up: then only ping."""
        if not self.paused:
            self._client.loop_misc()
        elif not self.unsent:
            try:
                self.sock.send(packets.PINGREQ)
            except BlockingIOError:
                return  # the broker does not read: it cannot be waiting for a sign of life
            except OSError as error:
                self.drop()
                self._user.on_lost(str(error))

    def _properties(self, packed: bytes) -> Any:
        if self.version != V5:
            return None
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = user_properties(packed)
        return properties

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._events += 1
        most = getattr(properties, "ReceiveMaximum", MOST_INFLIGHT)
        keep_alive_s = getattr(properties, "ServerKeepAlive", None)
        self._user.on_connack(Connack(flags.session_present, reason.value, most, keep_alive_s))

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._user.on_disconnect(reason.value)
        else:
            self._user.on_lost("connection lost")

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        self._events += 1
        pairs = getattr(message.properties, "UserProperty", [])
        properties = b"".join(packets.packed_property(name, value) for name, value in pairs)
        mid = message.mid if message.qos else 0
        arrived = Publish(message.topic, message.payload, mid, message.dup, message.retain, properties)
        self._user.on_publish(arrived)

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._events += 1
        self._user.on_puback(mid, reason.value)

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, answers: Any, _properties: Any) -> None:
        self._events += 1
        self._user.on_suback(mid, [each.value for each in answers if each.is_failure])

    def _on_unsubscribe(self, _client: Any, _data: Any, mid: int, _answers: Any, _properties: Any) -> None:
        self._events += 1
        self._user.on_unsuback(mid)


def _no_delay(_client: Any, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _queue_only(_client: Any, _data: Any, _sock: Any) -> None:
    """That a callback is set keeps paho from writing by itself."""
