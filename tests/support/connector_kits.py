"""A queue of each connector, with its two ends and what can be done to it from outside, for the connector kit."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fogline.runtimes.connectors.base import Sink, Source
from fogline.runtimes.connectors.file import FileConnector, FileSource
from fogline.runtimes.connectors.kafka import Kafka as KafkaConnector
from fogline.runtimes.connectors.kafka_source import KafkaSource
from fogline.runtimes.connectors.memory import MemoryQueue, MemorySink, MemorySource
from fogline.runtimes.connectors.mqtt import Mqtt, MqttSource
from fogline.runtimes.connectors.mqtt_paho import PahoConnection
from fogline.runtimes.connectors.websocket import WebSocket
from fogline.runtimes.connectors.websocket_source import WebSocketSource
from fogline.runtimes.errors import EndOfInput
from fogline.runtimes.message import Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from support.kafka import Kafka
from support.mosquitto import Mosquitto, free_port
from support.segments import DEADLINE_S, mqtt_end, websocket_end

WINDOW = 8


class Kit:
    """A queue, and what can be done to it from outside."""

    broker_between = True
    """What is sent is kept, and so confirmed, without its reader."""
    any_bytes = True
    """A payload may be anything; else it is one line of text."""
    carries = True
    """Time and trace go with a record."""
    keyed = True
    """So does its key."""
    topic: str | None = None
    """What a record is told of it where the options have `metadata`; None: this connector has no such option."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.made: list[Source | Sink] = []
        self.more: dict[str, Any] = {}
        """Options besides, of the source."""

    def source(self) -> Source:
        raise NotImplementedError

    def sink(self) -> Sink:
        raise NotImplementedError

    def break_connection(self, source: Source) -> None:
        raise NotImplementedError


class MemoryKit(Kit):
    topic = ""

    def __init__(self, poller: Poller) -> None:
        super().__init__(poller)
        self._queue = MemoryQueue()
        self._end = EndpointSpec("q", "s", "memory", self.more, "")

    def source(self) -> MemorySource:
        return MemorySource(self._end, self.poller, WINDOW, self._queue)

    def sink(self) -> MemorySink:
        return MemorySink(self._end, self.poller, self._queue)

    def break_connection(self, source: Source) -> None:
        assert isinstance(source, MemorySource)
        source.lose_connection()


class PatientSource(FileSource):
    """Of a file that somebody still writes: it looks again where the pump would have ended."""

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        try:
            return super().take(max_messages, timeout_s)
        except EndOfInput:
            self._poller.wait(timeout_s)
            return []


class FileKit(Kit):
    any_bytes = carries = keyed = False

    def __init__(self, poller: Poller, folder: Path) -> None:
        super().__init__(poller)
        self._files = FileConnector()
        self._options = {"path": str(folder / "q.jsonl"), "format": "json"}

    def source(self) -> Source:
        return PatientSource(EndpointSpec("q", "s", "file", self._options, "reader", "group"), self.poller, WINDOW)

    def sink(self) -> Sink:
        return self._files.sink(EndpointSpec("q", "s", "file", self._options, "writer"), self.poller)

    def break_connection(self, source: Source) -> None:
        source.close()
        source.open()


class MqttKit(Kit):
    topic, keyed = "t/q", False

    def __init__(self, poller: Poller, folder: Path, client: str) -> None:
        super().__init__(poller)
        self.broker = Mosquitto(folder)
        self.broker.start()
        self._mqtt = Mqtt()
        self._options = {"client": client}

    def source(self) -> Source:
        return self._mqtt.source(self._end("reader"), self.poller, WINDOW)

    def sink(self) -> Sink:
        return self._mqtt.sink(self._end("writer"), self.poller)

    def _end(self, stage: str) -> EndpointSpec:
        return mqtt_end("q", stage, self.broker.port, options=self._options | self.more)

    def break_connection(self, source: Source) -> None:
        self.settle(source)
        self.broker.restart()
        until(self.poller, lambda: not source.connected, "the loss is seen")
        until(self.poller, lambda: source.connected, "the source is back")

    def settle(self, source: Source) -> None:
        """Wait until the broker has read all acknowledgements: one that dies earlier may lose them."""
        assert isinstance(source, MqttSource)
        client: Any = source._link.client
        with self.poller.lock:
            if isinstance(client, PahoConnection):
                client._client._send_pingreq()
            else:
                client.ping()
            source._link.flush()
        until(self.poller, lambda: not _pinging(client), "the broker answers a ping")


class KafkaKit(Kit):
    """One server for the whole run; every kit has a topic of its own."""

    def __init__(self, poller: Poller, server: Kafka, client: str) -> None:
        super().__init__(poller)
        self._kafka = KafkaConnector()
        self.topic = uuid.uuid4().hex
        self._options = {"server": "127.0.0.1", "port": server.port, "topic": self.topic, "client": client}

    def source(self) -> Source:
        ident = f"r.{self._options['topic']}"
        end = EndpointSpec("q", "reader", "kafka", self._options | self.more, f"{ident}.0", group=ident)
        return self._kafka.source(end, self.poller, WINDOW)

    def sink(self) -> Sink:
        return self._kafka.sink(EndpointSpec("q", "writer", "kafka", self._options, "w"), self.poller)

    def break_connection(self, source: Source) -> None:
        """What a lost connection does at worst: the partitions are taken away, and come again."""
        assert isinstance(source, KafkaSource)
        with self.poller.lock:
            source._reader.commit_now(source._places(tuple(source._done)), DEADLINE_S)
            assigned = source._assignments
            source._reader.close()
            source._reader.open()
            source._reader.subscribe()
        until(self.poller, lambda: source._assignments > assigned, "the partitions are back")


def until(poller: Poller, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        poller.wait(0.05)


class WebSocketKit(Kit):
    """The two ends alone. The one that listens must be there first: an end that dials opens the other with it."""

    broker_between = False

    def __init__(self, poller: Poller, role: str) -> None:
        super().__init__(poller)
        self._role = role
        self._port = free_port()
        self._listening: Sink | None = None

    def source(self) -> Source:
        if self._role == "connect" and self._listening is None:
            self._listening = self._sink()
            self.made.append(self._listening)
            self._listening.open()
        return WebSocket().source(self._end("reader", written_by_stage=True), self.poller, WINDOW)

    def sink(self) -> Sink:
        return self._listening or self._sink()

    def break_connection(self, source: Source) -> None:
        assert isinstance(source, WebSocketSource)
        (former,) = source._writers.values()
        former.connection.sock.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + DEADLINE_S
        while former.number in source._writers or not any(each.next for each in source._writers.values()):
            assert time.monotonic() < deadline, "the writer is back"
            self.poller.wait(0.05)

    def _sink(self) -> Sink:
        return WebSocket().sink(self._end("writer", read_by_stage=True), self.poller)

    def _end(self, stage: str, **more: Any) -> EndpointSpec:
        return websocket_end("q", stage, self._port, options={"role": self._role}, **more)


def _pinging(client: Any) -> bool:
    return bool(client._client._ping_t if isinstance(client, PahoConnection) else client.pinging)
