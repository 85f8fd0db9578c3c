"""A foreign program that publishes numbered records at a steady pace and knows which were confirmed."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

LIMIT = 1000
"""Unconfirmed records at most."""
TURN_S = 0.002
RECONNECT_S = 0.1
CONFIRM_S = 60.0
UNROUTED = 0x10
"""Confirmed, but nobody is subscribed."""


class Producer:
    """`with Producer(...) as producer:` publishes in a thread, QoS 1, in order of number.

    The client keeps what the broker has not confirmed, connects again by itself and publishes it again: at
    least once. A record that the broker refused, or confirmed without anybody to give it to, is published again
    too. `rate` 0 means as fast as it goes.
    """

    def __init__(self, port: int, topic: str, make: Callable[[int], bytes], count: int, rate: float = 0.0) -> None:
        self.enough = {0}
        """Reason codes that confirm a record."""
        self.count = count
        self.rate = rate
        self.sent: set[int] = set()
        self.confirmed: set[int] = set()
        self._port, self._topic, self._make = port, topic, make
        self._open: dict[int, int] = {}
        self._again: collections.deque[int] = collections.deque()
        self._answers: collections.deque[tuple[int, int]] = collections.deque()
        self._next = 0
        self._began = self._ended = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(LIMIT)
        self._client.reconnect_delay_set(RECONNECT_S, 1.0)
        self._client.on_publish = self._on_publish

    def __enter__(self) -> Producer:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def done(self) -> bool:
        """Every record is confirmed."""
        return len(self.confirmed) >= self.count

    @property
    def elapsed_s(self) -> float:
        """Since the load began."""
        return time.monotonic() - self._began

    @property
    def reached(self) -> float:
        """Confirmed records per second, over the whole load."""
        ended = self._ended or time.monotonic()
        return len(self.confirmed) / max(ended - self._began, 1e-9)

    def wait(self, seconds: float = CONFIRM_S) -> None:
        """Until every record is confirmed."""
        self._thread.join(seconds)
        assert self.done, f"{len(self.confirmed)} of {self.count} records confirmed within {seconds} s"

    def _run(self) -> None:
        while not self.done and not self._stop.is_set():
            self._publish_due()
            self._read_answers()
            time.sleep(TURN_S)
        self._ended = time.monotonic()

    def _publish_due(self) -> None:
        due = min(self.count, int(self.elapsed_s * self.rate) + 1) if self.rate else self.count
        while len(self._open) < LIMIT and (self._again or self._next < due):
            if self._again:
                number = self._again.popleft()
            else:
                number, self._next = self._next, self._next + 1
                self.sent.add(number)
            message = self._client.publish(self._topic, self._make(number), qos=1)
            self._open[message.mid] = number

    def _read_answers(self) -> None:
        while self._answers:
            mid, reason = self._answers.popleft()
            number = self._open.pop(mid)
            if reason in self.enough:
                self.confirmed.add(number)
            else:
                self._again.append(number)

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        """In paho's thread, under its lock: only note it."""
        self._answers.append((mid, reason.value))


def publish(port: int, topic: str, payloads: Sequence[bytes]) -> None:
    """Publish every payload, in order, and return when all are confirmed, be anybody subscribed or not."""
    producer = Producer(port, topic, payloads.__getitem__, len(payloads))
    producer.enough = {0, UNROUTED}
    with producer:
        producer.wait()
