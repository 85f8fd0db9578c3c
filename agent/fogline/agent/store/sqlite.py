"""What the agent must know after a power cut: who it belongs to, what is wanted, how far each copy got.

One SQLite file, one connection, a rollback journal, every commit on the disk before it returns. A file
that fails its check is set aside, never deleted, and a new one is begun: the workspaces still tell what
ran.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fogline.agent.core.desired import Assignment, CopyKey
from fogline.wire.terms import ErrorKind, FoglineError, Wanted

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS copies (
    assignment TEXT NOT NULL,
    spec_digest TEXT NOT NULL,
    spec BLOB NOT NULL,
    wanted TEXT NOT NULL,
    bind INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    drain_s REAL NOT NULL,
    release INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT NOT NULL,
    restarts INTEGER NOT NULL,
    PRIMARY KEY (assignment, spec_digest)
) STRICT;
"""

_WISH = "assignment, spec_digest, spec, wanted, bind, revision, drain_s, release, listed, incarnation"

_SAVE_WISH = f"""
INSERT INTO copies ({_WISH}, phase, reason, restarts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'new', '', 0)
ON CONFLICT DO UPDATE SET spec = excluded.spec, wanted = excluded.wanted, bind = excluded.bind,
    revision = excluded.revision, drain_s = excluded.drain_s,
    release = excluded.release, listed = excluded.listed,
    incarnation = excluded.incarnation
"""  # noqa: S608  # only the column names above are put in


class Phase(StrEnum):
    """How far a copy got, as far as it must survive the agent. What its process does is asked anew."""

    NEW = "new"
    PREPARED = "prepared"
    FAILED = "failed"
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
    phase: Phase
    reason: str
    restarts: int


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
        meta = dict(self._db.execute("SELECT key, value FROM meta"))
        return Membership(meta.get("cluster_id", ""), int(meta.get("epoch", 0)), int(meta.get("generation", 0)))

    def save_membership(self, membership: Membership) -> None:
        """Remember whom the node belongs to."""
        with self._db:
            self._write_membership(membership)

    def save_desired(self, membership: Membership, wishes: Iterable[Assignment]) -> None:
        """Store a snapshot and its number, all or nothing. Copies not among `wishes` keep theirs.

        Raises FoglineError when the disk does not take it; nothing has changed then.
        """
        try:
            with self._db:
                self._write_membership(membership)
                self._db.executemany(_SAVE_WISH, [_wish_row(wish) for wish in wishes])
        except sqlite3.Error as error:
            sentence = f"the desired state could not be stored, so it is not acted on: {error}"
            raise FoglineError(ErrorKind.FAILED, sentence) from error

    def copies(self) -> list[CopyRecord]:
        """Every copy on record, by assignment and digest."""
        rows = self._db.execute(
            f"SELECT {_WISH}, phase, reason, restarts FROM copies ORDER BY assignment, spec_digest"  # noqa: S608
        )
        return [_record(row) for row in rows]

    def save_phase(self, key: CopyKey, phase: Phase, reason: str = "", restarts: int = 0) -> None:
        """Remember how far a copy got."""
        with self._db:
            self._db.execute(
                "UPDATE copies SET phase = ?, reason = ?, restarts = ? WHERE assignment = ? AND spec_digest = ?",
                (phase, reason, restarts, *key),
            )

    def drop(self, key: CopyKey) -> None:
        """Remove a copy's record."""
        with self._db:
            self._db.execute("DELETE FROM copies WHERE assignment = ? AND spec_digest = ?", key)

    def _write_membership(self, membership: Membership) -> None:
        rows = [
            ("cluster_id", membership.cluster_id),
            ("epoch", str(membership.epoch)),
            ("generation", str(membership.generation)),
        ]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def _open_sound(path: Path) -> sqlite3.Connection:
    try:
        return _open(path)
    except sqlite3.OperationalError as error:  # no room, no permission: not the file's fault
        sentence = f"the agent's state in {path} cannot be opened: {error}"
        raise FoglineError(ErrorKind.FAILED, sentence) from error
    except sqlite3.DatabaseError as error:
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
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _wish_row(wish: Assignment) -> tuple[object, ...]:
    return (
        wish.id, wish.spec_digest, wish.spec, wish.wanted.value, int(wish.bind), wish.revision, wish.drain_s,
        int(wish.release), int(wish.listed), wish.incarnation,
    )  # fmt: skip


def _record(row: tuple[Any, ...]) -> CopyRecord:
    assignment, digest, spec, wanted, bind, revision, drain_s, release, listed, incarnation, phase, reason, restarts = (
        row
    )
    wish = Assignment(
        str(assignment), str(digest), bytes(spec), Wanted(str(wanted)), bool(bind), int(revision),
        float(drain_s), bool(release), bool(listed), int(incarnation),
    )  # fmt: skip
    return CopyRecord(wish, Phase(str(phase)), str(reason), int(restarts))
