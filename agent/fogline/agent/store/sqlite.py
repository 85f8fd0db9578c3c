"""What the agent must know after a power cut: who it belongs to, what is wanted, how far each copy got.

One SQLite file, one connection, a rollback journal, every commit on the disk before it returns. Every row
carries a checksum: SQLite finds a page that cannot be, not a letter that is another one. A file that fails
its check is set aside, never deleted, and a new one is begun: the workspaces still tell what ran.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from fogline.agent.core.desired import Assignment, CopyKey
from fogline.wire.terms import ErrorKind, FoglineError, Wanted

log = logging.getLogger(__name__)

_FORMAT = 2
"""Of the tables, kept as `user_version`. A file of another format is set aside like one that is corrupt."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS copies (
    assignment TEXT NOT NULL,
    spec_digest TEXT NOT NULL,
    spec BLOB NOT NULL,
    record TEXT NOT NULL,
    checksum TEXT NOT NULL,
    PRIMARY KEY (assignment, spec_digest)
) STRICT;
PRAGMA user_version = {_FORMAT};
COMMIT;
"""

_NOT_THE_FILES_FAULT = {
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_AUTH,
}  # fmt: skip
"""No room, no permission, a broken disk: a new file would fare no better."""


class Phase(StrEnum):
    """How far a copy got, as far as it must survive the agent. What its process does is asked anew."""

    NEW = "new"
    PREPARED = "prepared"
    FAILED = "failed"
    FINISHED = "finished"
    GONE = "gone"


@dataclass(frozen=True)
class Membership:
    """Whom the node belongs to and the number of the newest snapshot it stored."""

    cluster_id: str = ""
    epoch: int = 0
    generation: int = 0


@dataclass(frozen=True)
class CopyRecord:
    """One row of `copies`."""

    wish: Assignment
    phase: Phase = Phase.NEW
    reason: str = ""
    restarts: int = 0
    incarnation: int = 0
    """The one that was tried last."""


class Store:
    """The agent's durable state. Not safe for a second connection: the state folder is locked."""

    def __init__(self, path: Path) -> None:
        """Open or create. Sets a corrupt file aside; raises FoglineError when none can be made."""
        self._db = _open_sound(path)

    def close(self) -> None:
        """Close the file; everything is already on the disk."""
        self._db.close()

    def membership(self) -> Membership:
        """Cluster id and the newest (epoch, generation); empty and zero before the first contact."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'membership'").fetchone()
        return Membership(**json.loads(row[0])) if row else Membership()

    def save_membership(self, membership: Membership) -> None:
        """Remember whom the node belongs to. Raises FoglineError when the disk does not take it."""
        with self._writing():
            self._write_membership(membership)

    def save_desired(self, membership: Membership, wishes: Iterable[Assignment]) -> None:
        """Store a snapshot and its number, all or nothing. Copies not among `wishes` keep theirs.

        Raises FoglineError when the disk does not take it; nothing has changed then.
        """
        try:
            with self._db:
                self._write_membership(membership)
                for wish in wishes:
                    self._write(replace(self._read(wish.key) or CopyRecord(wish), wish=wish))
        except sqlite3.Error as error:
            sentence = f"the desired state could not be stored, so it is not acted on: {error}"
            raise FoglineError(ErrorKind.FAILED, sentence) from error

    def copies(self) -> list[CopyRecord]:
        """Every copy on record, by assignment and digest."""
        return [_record(row) for row in self._db.execute(f"{_SELECT} ORDER BY assignment, spec_digest")]

    def save_progress(
        self, key: CopyKey, phase: Phase, reason: str = "", restarts: int = 0, incarnation: int = 0
    ) -> None:
        """Remember how far a copy got. Raises FoglineError when the disk does not take it."""
        progress: dict[str, Any] = {
            "phase": phase, "reason": reason, "restarts": restarts, "incarnation": incarnation
        }  # fmt: skip
        with self._writing():
            known = self._read(key)
            if known:
                self._write(replace(known, **progress))

    def drop(self, key: CopyKey) -> None:
        """Remove a copy's record. Raises FoglineError when the disk does not take it."""
        with self._writing():
            self._db.execute("DELETE FROM copies WHERE assignment = ? AND spec_digest = ?", key)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction."""
        try:
            with self._db:
                yield
        except sqlite3.Error as error:
            raise FoglineError(ErrorKind.FAILED, f"the agent's store does not take it: {error}") from error

    def _read(self, key: CopyKey) -> CopyRecord | None:
        row = self._db.execute(f"{_SELECT} WHERE assignment = ? AND spec_digest = ?", key).fetchone()
        return _record(row) if row else None

    def _write(self, record: CopyRecord) -> None:
        values = _row(record)
        self._db.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?)", (*values, _checksum(*values)))

    def _write_membership(self, membership: Membership) -> None:
        values = ("membership", json.dumps(asdict(membership)))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (*values, _checksum(*values)))


def _open_sound(path: Path) -> sqlite3.Connection:
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if _primary_code(error) in _NOT_THE_FILES_FAULT:
            sentence = f"the agent's state in {path} cannot be opened: {error}"
            raise FoglineError(ErrorKind.FAILED, sentence) from error
        aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
        log.error("the agent's state in %s is corrupt (%s): set aside as %s, beginning anew", path, error, aside)
        for suffix in ("", "-journal"):
            damaged = path.with_name(path.name + suffix)
            if damaged.exists():
                damaged.rename(aside.with_name(aside.name + suffix))
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        if db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            _check_rows(db)
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _check_rows(db: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError for another format, and for a row that is not as it was written."""
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found != _FORMAT:
        raise sqlite3.DatabaseError(f"format {found}, this release writes {_FORMAT}")
    for table in ("meta", "copies"):
        for *values, checksum in db.execute(f"SELECT * FROM {table}"):  # noqa: S608  # one of two words
            if checksum != _checksum(*values):
                raise sqlite3.DatabaseError(f"a row of {table} is not as it was written")


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's own code; that of a corrupt file where the module found the error, such as text that is none."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return sqlite3.SQLITE_CORRUPT if code == sqlite3.SQLITE_IOERR_SHORT_READ else code & 0xFF


_SELECT = "SELECT assignment, spec_digest, spec, record FROM copies"


def _row(record: CopyRecord) -> tuple[str, str, bytes, str]:
    wish = record.wish
    fields = asdict(record) | {"wish": {name: value for name, value in asdict(wish).items() if name not in _COLUMNS}}
    return wish.id, wish.spec_digest, wish.spec, json.dumps(fields)


_COLUMNS = {"id", "spec_digest", "spec"}
"""Fields of a wish that are columns of their own."""


def _record(row: tuple[str, str, bytes, str]) -> CopyRecord:
    assignment, digest, spec, record = row
    fields = json.loads(record)
    wanted = Wanted(fields["wish"].pop("wanted"))
    fields["wish"]["release_readers"] = tuple(fields["wish"].get("release_readers", ()))
    wish = Assignment(assignment, digest, spec, wanted, **fields.pop("wish"))
    return CopyRecord(wish, Phase(fields.pop("phase")), **fields)


def _checksum(*values: str | bytes) -> str:
    """Over every value and where it ends."""
    total = hashlib.sha256()
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()
