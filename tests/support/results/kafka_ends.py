"""A foreign program that reads one topic of Kafka and writes down what came; committed records alone."""

from __future__ import annotations

import threading
from types import TracebackType

from confluent_kafka import Consumer, TopicPartition

from support.results.collector import Collector

TURN_S = 0.1


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
