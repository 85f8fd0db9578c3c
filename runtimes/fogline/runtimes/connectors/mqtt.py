"""MQTT: QoS 1, acknowledged by hand, or 0; version 5 where the broker speaks it, else 3.1.1.

A reader keeps its session (`clean_start` is never set, so that the broker also stores it) under its stable
client id. It subscribes again at every connect, also when the session is there. Its receive maximum is
the window, but no broker is trusted with that: mosquitto 2.0.11 sends another window at each
acknowledgement, so beyond two windows messages are left in the socket.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

from fogline.runtimes.connectors.base import Connector, Sink, Source
from fogline.runtimes.connectors.leftovers import QUIET_S, taken_out
from fogline.runtimes.connectors.mqtt_end import MqttEnd, options_of
from fogline.runtimes.connectors.mqtt_metadata import about, carried_by
from fogline.runtimes.connectors.mqtt_sink import MqttSink
from fogline.runtimes.connectors.mqtt_subscription import State, Subscription
from fogline.runtimes.errors import EndOfInput, NotConnected
from fogline.runtimes.message import Message, content_id, just_read
from fogline.runtimes.mqtt.connection import Peer
from fogline.runtimes.mqtt.decoder import Publish
from fogline.runtimes.mqtt.packets import Connect
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from fogline.runtimes.tls import tls_of

log = logging.getLogger("fogline.mqtt")

BIND_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 30
SESSION_EXPIRY_S = 604_800


class MqttSource(MqttEnd, Source):
    def __init__(self, endpoint: EndpointSpec, poller: Poller, window: int, peer: Peer) -> None:
        super().__init__(endpoint, poller, peer)
        self._window = window
        self._tells = "metadata" in endpoint.options
        self._arrived: collections.deque[Message] = collections.deque()
        self._subscription = Subscription(endpoint, self._topic, self._link, poller)
        self._stopped = False
        self._unacknowledged = 0
        self._heard_at = 0.0

    @property
    def connected(self) -> bool:
        return self._link.up and self._subscription.standing == self._subscription.begun

    @property
    def error(self) -> str:
        return self._link.error or self._subscription.refusal

    def bind(self) -> None:
        subscription = self._subscription
        with self._poller.lock:
            if not subscription.begun:
                subscription.begin()
            deadline = time.monotonic() + BIND_TIMEOUT_S
            while subscription.asked and not self._link.paused and time.monotonic() < deadline:
                self._poller.wait(deadline - time.monotonic())
            if not self.connected and not self._link.paused:
                subscription.begun = False
                raise NotConnected(self.error or f"broker {self._link.place}: no answer to SUBSCRIBE")

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        arrived = self._arrived
        if not arrived:
            self._poller.wait(timeout_s)
        with self._poller.lock:
            if not arrived and self._is_empty():
                raise EndOfInput
            messages = [arrived.popleft() for _ in range(min(max_messages, len(arrived)))]
            if len(arrived) < self._window:
                self._link.resume()
        return messages

    def ack(self, messages: Sequence[Message]) -> None:
        with self._poller.lock:
            link = self._link
            if link.client is not None and link.up:
                number = link.number
                mids = [m.handle for m in messages if m.handle and m.connection == number]
                link.client.ack(mids)
                self._unacknowledged -= len(mids)
                link.flush()

    def stop_intake(self) -> None:
        with self._poller.lock:
            self._stopped = True
            self._arrived.clear()
            self._link.resume()

    def leave(self) -> bool:
        if not self.endpoint.shared:  # nobody is left who would have got it: what is kept is given up, and counted
            return super().leave()
        with self._poller.lock:
            self._subscription.leave()
            self._heard_at = time.monotonic()
        return True

    def _is_empty(self) -> bool:
        """Whether the session was read to its end: no broker tells, but it was silent long enough."""
        left = self._subscription.state is State.LEFT and self._link.up and not self._unacknowledged
        return left and time.monotonic() - self._heard_at >= QUIET_S

    def on_up(self, receive_maximum: int) -> None:
        self._subscription.ask()

    def on_down(self) -> None:
        """What was not taken yet comes again; only QoS 0 (no handle) would not."""
        self._subscription.on_down()
        self._unacknowledged = 0
        kept = [message for message in self._arrived if not message.handle]
        self._arrived.clear()
        self._arrived.extend(kept)

    def on_subscribed(self, mid: int, refusal: str) -> None:
        self._subscription.on_subscribed(mid, refusal)

    def on_unsubscribed(self, mid: int) -> None:
        self._heard_at = time.monotonic()
        self._subscription.on_unsubscribed(mid)

    def on_publish(self, publish: Publish) -> None:
        topic, payload, handle, redelivered, retained, properties = publish
        if retained:  # an old value that a 3.1.1 broker repeats at each subscribe, not an event
            if handle and self._link.client is not None:
                self._link.client.ack((handle,))
            return
        if self._stopped:
            return
        self._heard_at = now = time.monotonic()
        self._unacknowledged += handle > 0
        ident, carried = carried_by(properties) if properties else ("", just_read())
        ident = ident or content_id(topic, payload)
        told = about(publish) if self._tells else None
        number = self._link.number
        self._arrived.append(Message(payload, ident, number, redelivered, handle, now, carried, told))
        if len(self._arrived) >= 2 * self._window:
            self._link.pause()


class Mqtt:
    """The connector as the registry knows it."""

    def __init__(self, keep_alive_s: int = KEEP_ALIVE_S) -> None:
        self._keep_alive_s = keep_alive_s

    def source(self, endpoint: EndpointSpec, poller: Poller, window: int) -> Source:
        peer = self._peer(endpoint, session_expiry_s=SESSION_EXPIRY_S, receive_maximum=window)
        return MqttSource(endpoint, poller, window, peer)

    def sink(self, endpoint: EndpointSpec, poller: Poller) -> Sink:
        return MqttSink(endpoint, poller, self._peer(endpoint))

    def check(self, endpoint: EndpointSpec) -> None:
        name = f"{endpoint.client_id}.check.{uuid.uuid4().hex[:8]}"
        self._visit(dataclasses.replace(endpoint, client_id=name))

    def release(self, endpoint: EndpointSpec, *, others: bool = False) -> int:
        left = taken_out(lambda poller, window: self.source(endpoint, poller, window))
        self._visit(endpoint)
        return left

    def _visit(self, endpoint: EndpointSpec) -> None:
        """Connect with a clean start and no session of one's own, and leave."""
        poller = Poller()
        try:
            visitor = MqttEnd(endpoint, poller, self._peer(endpoint, clean=True))
            visitor.open()
            visitor.close()
        finally:
            poller.close()

    def _peer(self, endpoint: EndpointSpec, **wishes: Any) -> Peer:
        given = options_of(endpoint)
        wish = Connect(
            endpoint.client_id,
            self._keep_alive_s,
            username=given.get("username") or "",
            password=given.get("password") or "",
            **wishes,
        )
        tls = tls_of(endpoint)
        return Peer(given["server"], given["port"], wish, tls.context() if tls else None)


connector: Connector = Mqtt()
