"""A foreign program that reads one topic and writes down what came."""

from __future__ import annotations

import json
import threading
from collections import Counter
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

KEEP_S = 3600
RECONNECT_S = 0.1
CONNECT_S = 10.0


class Collector:
    """`with Collector(port, topic) as collector:` keeps payloads in order of arrival.

    Its session stays with the broker while either of them is away, so that it misses nothing.
    """

    def __init__(self, port: int, topic: str) -> None:
        self.payloads: list[bytes] = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"collector-{topic}", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(RECONNECT_S, 1.0)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, options=SubscribeOptions(qos=1))
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._properties = Properties(PacketTypes.CONNECT)
        self._properties.SessionExpiryInterval = KEEP_S
        self._port = port
        self._seen: set[bytes] = set()

    def __enter__(self) -> Collector:
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=self._properties)
        self._client.loop_start()
        assert self._subscribed.wait(CONNECT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def distinct(self) -> int:
        """How many different payloads came."""
        return len(self._seen)

    @property
    def records(self) -> list[Any]:
        """Everything that came, read as JSON."""
        return [json.loads(payload) for payload in list(self.payloads)]

    def has(self, payload: bytes) -> bool:
        """Whether this came."""
        return payload in self._seen

    def numbers(self) -> Counter[int]:
        """How often each number came."""
        return Counter(record["n"] for record in self.records)

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        self.payloads.append(message.payload)
        self._seen.add(message.payload)
