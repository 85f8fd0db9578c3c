"""The segment's counters, in the mapped state file, so that a restart goes on counting.

Layout: one row of int64 per stage, in the spec's order, one column per name of `spec.COUNTERS`.

Per row `in = done + filtered + dead_lettered + dropped + in_flight`. A record enters a stage (`in` and
`in_flight` go up) before user code sees it, and leaves `in_flight` when its message is acknowledged.
What a crash left in flight is taken out of `in` at the next start, because the broker brings it again.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fogline.runtimes.spec import COUNTERS

LATENCIES = 4096
RATE_S, SAMPLE_S = 10.0, 0.5
"""Over how long a rate is taken, and how far apart the looks are that are kept for it."""
_COLUMN = {name: index for index, name in enumerate(COUNTERS)}
_WIDTH = len(COUNTERS)
_SETTLED = ("done", "filtered", "dead_lettered", "dropped")
_SETTLED_COLUMNS = tuple(_COLUMN[name] for name in _SETTLED)
_IN, _IN_FLIGHT, _OUT = (_COLUMN[name] for name in ("in", "in_flight", "out"))


@dataclass
class Tally:
    """What one batch did at one stage."""

    done: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    out: int = 0


class Rates:
    """Records per second, from what somebody who looked about `RATE_S` ago has seen. Nothing is counted for it."""

    def __init__(self, now_s: float, counts: Sequence[int]) -> None:
        self._seen = collections.deque([(now_s, tuple(counts))])

    def at(self, now_s: float, counts: Sequence[int]) -> list[float]:
        """Of each count, since the oldest look that is not much older than needed; zeros at the first moment."""
        seen = self._seen
        while len(seen) > 1 and seen[1][0] <= now_s - RATE_S:
            seen.popleft()
        before_s, before = seen[0]
        if now_s - seen[-1][0] >= SAMPLE_S:
            seen.append((now_s, tuple(counts)))
        if now_s <= before_s:
            return [0.0] * len(counts)
        return [(count - former) / (now_s - before_s) for count, former in zip(counts, before, strict=True)]


class Counters:
    """Written by the pump's thread, read by any: `snapshot` never sees a row between two writes."""

    def __init__(self, stages: Sequence[str], room: memoryview | None = None) -> None:
        """In `room`, of 8 bytes per stage and counter, or in plain memory."""
        self.stages = tuple(stages)
        self._lock = threading.Lock()
        self._row = {name: index * _WIDTH for index, name in enumerate(stages)}
        self._latencies: collections.deque[float] = collections.deque(maxlen=LATENCIES)
        self._cells = (memoryview(bytearray(8 * _WIDTH * len(stages))) if room is None else room).cast("q")
        self._forget_in_flight()
        self._rates = Rates(time.monotonic(), [row["in"] for row in self.snapshot().values()])

    def enter(self, stage: str, count: int) -> None:
        """Records reach a stage; before any user code runs."""
        row, cells = self._row[stage], self._cells
        with self._lock:
            cells[row + _IN] += count
            cells[row + _IN_FLIGHT] += count

    def settle(self, tallies: dict[str, Tally]) -> None:
        """A batch is acknowledged: what was in flight has become what it is."""
        cells = self._cells
        with self._lock:
            for stage, tally in tallies.items():
                row = self._row[stage]
                settled = (tally.done, tally.filtered, tally.dead_lettered, tally.dropped)
                for column, count in zip(_SETTLED_COLUMNS, settled, strict=True):
                    if count:
                        cells[row + column] += count
                        cells[row + _IN_FLIGHT] -= count
                cells[row + _OUT] += tally.out

    def add(self, stage: str, name: str, count: int) -> None:
        """For the columns outside the equation: `redelivered`, `unrouted`."""
        with self._lock:
            self._cells[self._row[stage] + _COLUMN[name]] += count

    def latencies(self, seconds: Iterable[float]) -> None:
        """Arrival to confirmation, for the messages of a batch."""
        with self._lock:
            self._latencies.extend(seconds)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Stage -> counter -> value; the equation holds in every row."""
        with self._lock:
            values = self._cells.tolist()
        return {stage: dict(zip(COUNTERS, values[row : row + _WIDTH], strict=True)) for stage, row in self._row.items()}

    def percentiles(self) -> tuple[float, float]:
        """p50 and p99 of the recent latencies, in seconds; zeros before the first."""
        with self._lock:
            ordered = sorted(self._latencies)
        if not ordered:
            return 0.0, 0.0
        last = len(ordered) - 1
        return ordered[last // 2], ordered[round(last * 0.99)]

    def rows(self) -> list[dict[str, Any]]:
        """What `status` tells of the stages; `rate` in records per second."""
        counters, (p50_s, p99_s) = self.snapshot(), self.percentiles()
        with self._lock:
            rates = self._rates.at(time.monotonic(), [row["in"] for row in counters.values()])
        return [
            {"name": stage, "counters": counted, "p50_s": p50_s, "p99_s": p99_s, "rate": rate}
            for (stage, counted), rate in zip(counters.items(), rates, strict=True)
        ]

    def close(self) -> None:
        """Release `room`, so that its file can be closed."""
        self._cells.release()

    def _forget_in_flight(self) -> None:
        """Also mends a row that a crash caught between two writes."""
        for row in self._row.values():
            self._cells[row + _COLUMN["in"]] = sum(self._cells[row + _COLUMN[name]] for name in _SETTLED)
            self._cells[row + _COLUMN["in_flight"]] = 0
