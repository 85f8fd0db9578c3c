"""Judges a run afterwards, from what was written down: nothing here asks Fogline how it went.

A record is lost when the broker confirmed it to its producer, and it is neither at the sink, nor a dead
letter, nor filtered as it should be, nor counted as dropped. A run that could not have shown a loss (too
little load, a kill that hit an idle process) is void, and a void run is a failed one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from support.results.faults import Fault

FLOOR = 0.9
"""Share of the wanted rate that a run must have reached."""
SHOWN = 5
"""Examples in a verdict's text."""
SETTLED = ("done", "filtered", "dead_lettered", "dropped", "in_flight")


@dataclass(frozen=True)
class Kept:
    """The record must be at the sink, exactly so."""

    record: Any


@dataclass(frozen=True)
class Filtered:
    """No stage lets it pass."""


@dataclass(frozen=True)
class DeadLetter:
    """It must be among the dead letters, with these bytes."""

    payload: bytes


Expect = Callable[[int], Kept | Filtered | DeadLetter]
"""What must become of the record with this number."""


@dataclass(frozen=True)
class Outcome:
    """One fault as it was carried out."""

    fault: Fault
    at_s: float
    """When it was carried out, in seconds after the load began."""
    took_s: float
    """Until what was hit worked again."""
    note: str = ""
    void: str = ""
    """Why it proves nothing."""

    def __str__(self) -> str:
        words = "; ".join(filter(None, (self.note, f"VOID: {self.void}" if self.void else "")))
        return f"{self.fault} | done at {self.at_s:.2f} s, back after {self.took_s:.2f} s | {words}"


@dataclass(frozen=True)
class Load:
    """How fast the records came, in records per second."""

    wanted: float
    reached: float


@dataclass(frozen=True)
class History:
    """Everything that was written down during a run."""

    sent: Collection[int]
    """Numbers that were published, confirmed or not."""
    confirmed: Collection[int]
    arrived: Sequence[bytes]
    """Payloads at the sink, as they came."""
    letters: Sequence[bytes] = ()
    """Payloads of the dead letters."""
    rows: Sequence[Mapping[str, Any]] = ()
    """Rows of `coord status`, once everything was settled."""
    load: Load | None = None
    faults: Sequence[Outcome] = ()
    alarms: Sequence[str] = ()
    """What the watch over the processes saw and must not be: a PID that changed, a second copy."""
    duplicates_limit: int | None = None
    """More than so many repetitions are a failure."""


@dataclass(frozen=True)
class Verdict:
    """What a run came to. `str` of it is for people."""

    history: History
    lost: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Records at the sink that are not what they must be, and letters that must not be."""
    duplicates: int = 0
    uneven: list[str] = field(default_factory=list)
    """Rows whose counters do not add up."""

    @cached_property
    def failures(self) -> list[str]:
        """Promises that were broken, one sentence each."""
        found = []
        if self.lost:
            found.append(f"{len(self.lost)} records LOST, such as {self.lost[:SHOWN]}")
        if self.wrong:
            found.append(f"{len(self.wrong)} records WRONG: {'; '.join(self.wrong[:SHOWN])}")
        limit = self.history.duplicates_limit
        if limit is not None and self.duplicates > limit:
            found.append(f"{self.duplicates} records came again, at most {limit} may")
        return [*found, *self.uneven, *self.history.alarms]

    @cached_property
    def void(self) -> list[str]:
        """Why the run proves nothing, one sentence each."""
        found = [f"{outcome.fault}: {outcome.void}" for outcome in self.history.faults if outcome.void]
        load = self.history.load
        if load is not None and load.reached < FLOOR * load.wanted:
            found.append(f"the load was {load.reached:.0f}/s, under {FLOOR:.0%} of the {load.wanted:.0f}/s wanted")
        return found

    @property
    def holds(self) -> bool:
        """Everything promised was kept, and the run could have shown otherwise."""
        return not self.failures and not self.void

    def __str__(self) -> str:
        history = self.history
        title = "HOLDS" if self.holds else "FAILED" if self.failures else "VOID"
        lines = [
            f"{title}: {len(set(history.confirmed))} records confirmed, {len(history.arrived)} at the sink, "
            f"{len(history.letters)} dead letters, lost {len(self.lost)}, wrong {len(self.wrong)}, "
            f"again {self.duplicates}, {len(history.faults)} faults"
        ]
        lines += [f"  failed: {each}" for each in self.failures]
        lines += [f"  void: {each}" for each in self.void]
        lines += [f"  {outcome}" for outcome in sorted(history.faults, key=lambda each: each.at_s)]
        lines += [f"  {_row(row)}" for row in history.rows]
        return "\n".join(lines)


def judge(history: History, expect: Expect) -> Verdict:
    """Compare what came out with what must have."""
    sent = set(history.sent) | set(history.confirmed)
    numbers, wrong = _read(history.arrived, sent, expect)
    letters, stray = _match(history.letters, sent, expect)
    missing = [
        number
        for number in sorted(set(history.confirmed))
        if number not in numbers and number not in letters and not isinstance(expect(number), Filtered)
    ]
    dropped = sum(row["dropped"] for row in history.rows)
    repeated = sum(count - 1 for count in (*numbers.values(), *letters.values()))
    uneven = [f"counters of {row['name']} do not add up: {_row(row)}" for row in history.rows if not _adds_up(row)]
    return Verdict(history, missing if len(missing) > dropped else [], wrong + stray, repeated, uneven)


def _read(arrived: Iterable[bytes], sent: Collection[int], expect: Expect) -> tuple[Counter[int], list[str]]:
    """How often each number came, and what is wrong with what came."""
    numbers, wrong = Counter[int](), []
    for payload in arrived:
        try:
            record = json.loads(payload)
            number = int(record["n"])
        except (ValueError, KeyError, TypeError):
            wrong.append(f"no numbered record: {payload[:80]!r}")
            continue
        numbers[number] += 1
        if number not in sent:
            wrong.append(f"{number} was never sent")
        elif (must := expect(number)) != Kept(record):
            wrong.append(f"{number} is {record!r}, must be {must!r}")
    return numbers, wrong


def _match(letters: Sequence[bytes], sent: Iterable[int], expect: Expect) -> tuple[Counter[int], list[str]]:
    """How often each number became a dead letter, and letters that must not be. Equal payloads (such as
    empty ones) are given to the numbers that wait for them, one each."""
    if not letters:
        return Counter(), []
    waiting: dict[bytes, list[int]] = {}
    for number in sorted(sent):
        must = expect(number)
        if isinstance(must, DeadLetter):
            waiting.setdefault(must.payload, []).append(number)
    found, stray = Counter[int](), []
    for payload, count in Counter(letters).items():
        owners = waiting.get(payload)
        if owners is None:
            stray.append(f"a dead letter that must not be: {payload[:80]!r}")
            continue
        found.update(owners[:count])
        found[owners[0]] += max(0, count - len(owners))
    return found, stray


def _adds_up(row: Mapping[str, Any]) -> bool:
    return bool(row["in"] == sum(row[name] for name in SETTLED))


def _row(row: Mapping[str, Any]) -> str:
    shown = ("in", *SETTLED, "out", "redelivered")
    return f"{row['name']}: " + ", ".join(f"{name} {row.get(name)}" for name in shown)
