"""Numbered records in, numbered records out: a foreign producer and consumer that compare contents."""

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
CONFIRM_S = 60.0


def publish(port: int, topic: str, payloads: list[bytes]) -> None:
    """Publish every payload with QoS 1, in order, and return when all are acknowledged."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sent = [client.publish(topic, payload, qos=1) for payload in payloads]
    for each in sent:
        each.wait_for_publish(CONFIRM_S)
        assert each.is_published()
    client.disconnect()
    client.loop_stop()


class Collector:
    """A foreign reader of one topic with a session of its own; keeps payloads in order of arrival."""

    def __init__(self, port: int, topic: str) -> None:
        self.records: list[Any] = []
        self._subscribed = threading.Event()
        self._topic = topic
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"collector-{topic}", protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, options=SubscribeOptions(qos=1))
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.records.append(json.loads(message.payload))
        self._properties = Properties(PacketTypes.CONNECT)
        self._properties.SessionExpiryInterval = KEEP_S
        self._port = port

    def __enter__(self) -> Collector:
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=self._properties)
        self._client.loop_start()
        assert self._subscribed.wait(10.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def numbers(self) -> Counter[int]:
        """How often each number arrived."""
        return Counter(record["n"] for record in self.records)
