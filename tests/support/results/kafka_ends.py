"""Foreign programs at one topic of Kafka: one writes numbered records, one reads what came, if it is committed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType

from confluent_kafka import Consumer, Producer, TopicPartition

from support.results.collector import Collector
from support.results.producer import due_by

TURN_S = 0.1


class KafkaProducer:
    """The same as a `Producer` of MQTT: at a steady pace, and it knows what was confirmed."""

    def __init__(
        self,
        server: str,
        topic: str,
        make: Callable[[int], bytes],
        count: int,
        rate: float = 0.0,
        lasts: Callable[[], bool] = lambda: False,
    ) -> None:
        self.count = count
        self.lasts = lasts
        self.sent: set[int] = set()
        self.confirmed: set[int] = set()
        self._topic, self._make, self._rate = topic, make, rate
        self._began = self._ended = 0.0
        self._stop = threading.Event()
        settings = {"bootstrap.servers": server, "enable.idempotence": True, "log_level": 0, "message.timeout.ms": 0}
        self._producer = Producer(settings | {"reconnect.backoff.max.ms": 500})
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def __enter__(self) -> KafkaProducer:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def reached(self) -> float:
        """Confirmed records per second, over the whole load."""
        return len(self.confirmed) / max((self._ended or time.monotonic()) - self._began, 1e-9)

    def wait(self, seconds: float) -> None:
        """Until every record is confirmed."""
        self._thread.join(seconds)
        assert self.done, f"{len(self.confirmed)} of {max(self.count, len(self.sent))} confirmed within {seconds} s"

    @property
    def done(self) -> bool:
        """Every record is confirmed, and no more is to come."""
        return len(self.confirmed) >= max(self.count, len(self.sent)) and not self.lasts()

    def _run(self) -> None:
        while not self.done and not self._stop.is_set():
            due = due_by(self._began, self._rate, sys.maxsize if self.lasts() else self.count)
            for number in range(len(self.sent), due):
                self.sent.add(number)
                self._producer.produce(self._topic, self._make(number), on_delivery=partial(self._note, number))
            self._producer.poll(0.005)
        self._ended = time.monotonic()

    def _note(self, number: int, error: object, _message: object) -> None:
        if error is None:
            self.confirmed.add(number)


class KafkaCollector(Collector):
    """The same as a `Collector` of MQTT. It belongs to no group: it keeps its own place in partition 0."""

    def __init__(self, server: str, topic: str) -> None:
        self.payloads = []
        self._seen = set()
        self._server, self._name = server, topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def __enter__(self) -> KafkaCollector:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        settings = {
            "bootstrap.servers": self._server,
            "group.id": "collector",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
        consumer = Consumer(settings)
        consumer.assign([TopicPartition(self._name, 0, 0)])
        while not self._stop.is_set():
            for message in consumer.consume(500, TURN_S):
                if message.error() is None:
                    payload = message.value() or b""
                    self.payloads.append(payload)
                    self._seen.add(payload)
        consumer.close()
