"""The dead letters of one pipeline on one machine: a SQLite file that its segments write and tools read.

A letter is the input message of a segment, byte for byte, with what is known of its failure. It is on
the disk when `keep` returns: rollback journal, `synchronous=EXTRA` (with FULL a power cut can bring the
deleted journal back, and with it undo a transaction whose message is acknowledged). The file is opened for
each transaction, so that a file that was taken away is noticed, and nobody waits for an idle process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.runtimes.errors import NotKept

LIMIT_BYTES = 1 << 30
BUSY_S = 2.0
"""How long to wait for another process that has the file; then it is a failure, to be tried again."""
_PAGE_BYTES = 4096
_REOPENINGS = 100
_LISTED_ROWS = 500
_SHOWN_ROWS = 8
_HIGHEST = 2**63 - 1

_SCHEMA = """CREATE TABLE IF NOT EXISTS letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    segment TEXT NOT NULL, stage TEXT NOT NULL, reader TEXT NOT NULL, queue TEXT NOT NULL,
    reason TEXT NOT NULL, trace TEXT NOT NULL, attempts INTEGER NOT NULL,
    first_at REAL NOT NULL, last_at REAL NOT NULL, id TEXT NOT NULL, payload BLOB NOT NULL)"""
"""AUTOINCREMENT: a number is never given twice."""
_LATER = {"key": "BLOB", "time_ms": "INTEGER NOT NULL DEFAULT 0", "traceparent": "TEXT NOT NULL DEFAULT ''"}
"""Columns that a file of an earlier release lacks. That release passes over them, so both may use one file."""
_INSERT = """INSERT INTO letters
    (stage, reason, trace, attempts, last_at, segment, reader, queue, first_at, id, payload, key, time_ms, traceparent)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_SUMMARY = (
    "SELECT number, segment, stage, queue, reason, attempts, first_at, last_at, length(payload) AS size_bytes, id"
)
_NEWEST = _SUMMARY + " FROM letters WHERE number < ? ORDER BY number DESC LIMIT ?"
_WHOLE = _SUMMARY + ", reader, trace, payload, key, time_ms, traceparent FROM letters WHERE number "


@dataclass(frozen=True)
class Letter:
    """One input message and its failure."""

    segment: str
    stage: str
    """The stage that failed."""
    reader: str
    """The stage that read the message from `queue`: where a replay begins."""
    queue: str
    reason: str
    trace: str
    attempts: int
    id: str
    payload: bytes
    number: int = 0
    """0: not in the file yet."""
    key: bytes | None = None
    time_ms: int = 0
    traceparent: str = ""
    """What the message carried, for what its replay becomes."""


class LetterFile:
    """Every method is one transaction and may be called from any thread."""

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = path
        self._limit_pages = max(1, limit_bytes // _PAGE_BYTES)

    def keep(self, letters: Sequence[Letter]) -> None:
        """Durably: new ones are added, those that have a number get their newest failure.

        Raises NotKept when the file is full, locked or cannot be written; then none of them is kept.
        """
        now = time.time()
        with self._writing() as db:
            for each in letters:
                failure = (each.stage, each.reason, each.trace, each.attempts, now)
                if each.number:
                    changed = "UPDATE letters SET stage=?, reason=?, trace=?, attempts=?, last_at=? WHERE number=?"
                    db.execute(changed, (*failure, each.number))
                else:
                    origin = (each.segment, each.reader, each.queue, now, each.id, each.payload)
                    db.execute(_INSERT, failure + origin + (each.key, each.time_ms, each.traceparent))

    def discard(self, numbers: Iterable[int] | None) -> int:
        """Delete these letters, or all; how many there were. Raises NotKept."""
        if not self.path.exists():
            return 0
        with self._writing() as db:
            if numbers is None:
                return db.execute("DELETE FROM letters").rowcount
            return sum(db.execute("DELETE FROM letters WHERE number=?", (each,)).rowcount for each in set(numbers))

    def purge(self) -> int:
        """Delete all letters and the file; how many letters there were. Raises NotKept."""
        if not self.path.exists():
            return 0
        with self._writing() as db:
            (count,) = db.execute("SELECT count(*) FROM letters").fetchone()
            self.path.unlink()  # under the lock: who waited for it finds another file, or none, and opens again
        return int(count)

    def summaries(self, limit: int = 0) -> Iterator[dict[str, Any]]:
        """Summaries, newest first; at most `limit`, 0: all. Raises NotKept when it cannot be read."""
        last, left = _HIGHEST, limit or _HIGHEST
        while left > 0 and (page := self._rows(_NEWEST, last, min(_LISTED_ROWS, left))):
            yield from page
            last, left = page[-1]["number"], left - len(page)

    def show(self, numbers: Iterable[int] | None = None) -> Iterator[dict[str, Any]]:
        """Summaries with trace, reader and payload, oldest first. Raises NotKept when it cannot be read."""
        if numbers is not None:
            for each in sorted(set(numbers)):
                yield from self._rows(_WHOLE + "= ?", each)
            return
        last = 0
        while page := self._rows(_WHOLE + "> ? ORDER BY number LIMIT ?", last, _SHOWN_ROWS):
            yield from page
            last = page[-1]["number"]

    def readers(self, segment: str, numbers: Iterable[int]) -> dict[tuple[str, str], list[int]]:
        """Those of `numbers` that are letters of this segment, by reading stage and queue. Raises NotKept."""
        wanted, found = set(numbers), dict[tuple[str, str], list[int]]()
        for row in self._rows("SELECT number, reader, queue FROM letters WHERE segment=? ORDER BY number", segment):
            if row["number"] in wanted:
                found.setdefault((row["reader"], row["queue"]), []).append(row["number"])
        return found

    def note_death(self, number: int, stage: str) -> None:
        """The process died while this letter was replayed. Raises NotKept."""
        for row in self.show([number]):
            known = {each.name: row[each.name] for each in dataclasses.fields(Letter)}
            reason = "the process died while this record was in it (replayed)"
            self.keep([Letter(**known | {"stage": stage, "reason": reason, "trace": "", "attempts": 1})])

    def _rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """A page of rows, whole, so that a slow reader of them does not keep the file locked."""
        if not self.path.exists():
            return []
        with self._open() as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query, values)]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction in the file that has the name now, not in one that was purged while we waited."""
        for _ in range(_REOPENINGS):
            before = self._made()
            with self._open() as db:
                db.execute("BEGIN IMMEDIATE")
                if before == _identity(self.path):
                    yield db
                    db.execute("COMMIT")
                    return
        raise NotKept(f"dead letters {self.path}: the file is replaced again and again")

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            place = f"{self.path.absolute().as_uri()}?mode=rw"  # never made here: see _made
            with contextlib.closing(sqlite3.connect(place, BUSY_S, isolation_level=None, uri=True)) as db:
                db.execute("PRAGMA synchronous=EXTRA")
                db.execute(f"PRAGMA max_page_count={self._limit_pages}")
                db.execute(_SCHEMA)
                _complete(db)
                yield db
        except (sqlite3.Error, OSError) as error:
            raise NotKept(f"dead letters {self.path}: {error}") from error

    def _made(self) -> tuple[int, int] | None:
        """Make the file, for the owner of its folder alone, when there is none: a container may write it too, as
        somebody else. A file that is there is never opened past SQLite: closing it would drop the locks that other
        threads hold."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                folder = os.open(self.path.parent, os.O_RDONLY)
                if os.geteuid() == 0:
                    os.fchown(file, os.fstat(folder).st_uid, os.fstat(folder).st_gid)
                os.close(file)
                os.fsync(folder)
                os.close(folder)
        except OSError as error:
            raise NotKept(f"dead letters {self.path}: {error.strerror}") from error
        return _identity(self.path)


def _complete(db: sqlite3.Connection) -> None:
    known = {row[1] for row in db.execute("PRAGMA table_info(letters)")}
    for column, kind in _LATER.items():
        if column not in known:
            with contextlib.suppress(sqlite3.OperationalError):  # another was faster, or whoever needs it will say so
                db.execute(f"ALTER TABLE letters ADD COLUMN {column} {kind}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
