"""Looking at what flows through a queue, without being in the way.

A tap is a bounded buffer per asker. The pump offers what passes, only on queues somebody looks at; what
does not fit is lost to the asker and to nobody else.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import orjson

from fogline.runtimes.codecs import shown
from fogline.runtimes.message import Item

BUFFERED_RECORDS = 256
RECORD_LIMIT_BYTES = 16 * 1024


class Tap:
    """One asker: at most `wanted` records."""

    def __init__(self, queue: str, wanted: int) -> None:
        self.queue = queue
        self.wanted = wanted
        self._buffer: collections.deque[bytes] = collections.deque()

    def offer(self, items: Sequence[Item]) -> None:
        """In the pump's thread: keep what there is room for."""
        room = min(self.wanted, BUFFERED_RECORDS) - len(self._buffer)
        for item in items[: max(0, room)]:
            self._buffer.append(item.payload)

    def take(self) -> list[dict[str, Any]]:
        """In the control thread: `{"record": ...}` for what came since, and one less to come for each."""
        count = min(len(self._buffer), self.wanted)
        self.wanted -= count
        return [_line(self._buffer.popleft()) for _ in range(count)]

    @property
    def done(self) -> bool:
        return self.wanted <= 0


class Taps:
    """All taps of the process. `queues` is empty when nobody looks: the pump tests just that."""

    def __init__(self) -> None:
        self.queues: dict[str, tuple[Tap, ...]] = {}

    def add(self, tap: Tap) -> None:
        self.queues = {**self.queues, tap.queue: (*self.queues.get(tap.queue, ()), tap)}

    def remove(self, tap: Tap) -> None:
        left = tuple(each for each in self.queues.get(tap.queue, ()) if each is not tap)
        others = {queue: taps for queue, taps in self.queues.items() if queue != tap.queue}
        self.queues = {**others, tap.queue: left} if left else others

    def offer(self, queue: str, items: Sequence[Item]) -> None:
        for tap in self.queues.get(queue, ()):
            tap.offer(items)


def _line(payload: bytes) -> dict[str, Any]:
    if len(payload) > RECORD_LIMIT_BYTES:
        return {"record": shown(payload, RECORD_LIMIT_BYTES), "truncated": True}
    try:
        return {"record": orjson.loads(payload)}
    except orjson.JSONDecodeError:
        return {"record": shown(payload)}
