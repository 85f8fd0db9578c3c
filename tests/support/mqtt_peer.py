"""A foreign MQTT program: paho as anybody would use it, knowing nothing of Fogline."""

from __future__ import annotations

import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from support.segments import DEADLINE_S, wait_until


class Peer:
    """Connected on entry; collects what it subscribed to; `publish` waits for the acknowledgement."""

    def __init__(self, port: int, *, v5: bool = True, client_id: str = "", kept_s: int = 0) -> None:
        """`kept_s`: how long the broker keeps its session, taken up again at every connect (version 5 alone)."""
        self.payloads: list[bytes] = []
        self.ids: list[str] = []
        self.headers: list[list[tuple[str, str]]] = []
        """The user properties of each."""
        self._connected = threading.Event()
        self._subscribed = threading.Event()
        version = paho.MQTTv5 if v5 else paho.MQTTv311
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=version)
        self._client.max_inflight_messages_set(0)
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._collect
        self._port = port
        self._kept_s = kept_s

    def __enter__(self) -> Peer:
        if self._kept_s:
            kept = Properties(PacketTypes.CONNECT)
            kept.SessionExpiryInterval = self._kept_s
            self._client.connect("127.0.0.1", self._port, clean_start=False, properties=kept)
        else:
            self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._connected.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, topic: str) -> Peer:
        self._subscribed.clear()
        self._client.subscribe(topic, 1)
        assert self._subscribed.wait(DEADLINE_S)
        return self

    def publish(
        self, topic: str, *payloads: bytes, retain: bool = False, qos: int = 1, ident: str = "", **headers: str
    ) -> None:
        """`headers` are user properties; a `_` in a name stands for `-`."""
        properties = None
        if ident or headers:
            properties = Properties(PacketTypes.PUBLISH)
            pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
            properties.UserProperty = [*pairs, ("other", "x"), *([("fogline-id", ident)] if ident else [])]
        sent = [self._client.publish(topic, each, qos, retain, properties) for each in payloads]
        for each in sent:
            each.wait_for_publish(DEADLINE_S)

    def until(self, count: int) -> None:
        """Wait until so many messages have come."""
        wait_until(lambda: len(self.payloads) >= count, f"{count} messages")

    def _collect(self, _client: Any, _data: Any, message: Any) -> None:
        self.payloads.append(message.payload)
        pairs = getattr(message.properties, "UserProperty", []) if message.properties else []
        self.headers.append(pairs)
        self.ids.append(dict(pairs).get("fogline-id", ""))
