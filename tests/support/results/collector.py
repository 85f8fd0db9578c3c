"""A foreign program that reads one topic and writes down what came."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from support.results.wire import PUBLISH, Gone, Wire, puback_packet, read_publish

KEEP_S = 3600
RECONNECT_S = 0.1
CONNECT_S = 10.0
TURN_S = 0.1


class Collector:
    """`with Collector(port, topic) as collector:` keeps payloads in order of arrival.

    Its session stays with the broker while either of them is away, so that it misses nothing. What is written
    down is acknowledged after that.
    """

    def __init__(self, port: int, topic: str) -> None:
        self.payloads: list[bytes] = []
        self._seen: set[bytes] = set()
        self._port, self._topic = port, topic
        self._subscribed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def __enter__(self) -> Collector:
        self._thread.start()
        assert self._subscribed.wait(CONNECT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

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

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._converse(Wire(self._port, f"collector-{self._topic}", keep_s=KEEP_S))
            except Gone:
                self._stop.wait(RECONNECT_S)

    def _converse(self, wire: Wire) -> None:
        try:
            wire.subscribe(self._topic)
            self._subscribed.set()
            while not self._stop.is_set():
                self._write_down(wire, wire.packets(TURN_S))
        finally:
            wire.close()

    def _write_down(self, wire: Wire, packets: Iterable[tuple[int, int, bytes]]) -> None:
        answers = []
        for kind, flags, body in packets:
            if kind == PUBLISH:
                mid, payload = read_publish(flags, body)
                self.payloads.append(payload)
                self._seen.add(payload)
                if mid:
                    answers.append(puback_packet(mid))
        wire.send(b"".join(answers))
