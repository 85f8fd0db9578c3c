"""The dead letter file: what is durable, numbered, limited and shared."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from fogline.runtimes import letter_file as module
from fogline.runtimes.errors import NotKept
from fogline.runtimes.letter_file import Letter, LetterFile

LETTER = Letter("seg", "stage", "reader", "in", "ValueError: no", "trace", 4, "id-1", b"\xff\x00 bytes")
LETTER = dataclasses.replace(LETTER, key=b"\xff", time_ms=1_700_000_000_123, traceparent="00-")


@pytest.fixture
def file(tmp_path: Path) -> LetterFile:
    return LetterFile(tmp_path / "dead-letters" / "p.db")


def test_a_letter_is_kept_as_it_is_for_its_owner_alone(file: LetterFile) -> None:
    file.keep([LETTER])
    (row,) = file.show()
    kept = {each.name: row[each.name] for each in dataclasses.fields(Letter)}
    assert Letter(**kept) == dataclasses.replace(LETTER, number=1)
    assert (row["size_bytes"], row["first_at"]) == (8, row["last_at"])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")
def test_a_segment_that_runs_as_root_shares_it_with_one_in_a_container(file: LetterFile) -> None:
    file.path.parent.mkdir()
    os.chown(file.path.parent, 65532, 65532)
    file.keep([LETTER])
    assert (file.path.stat().st_uid, file.path.stat().st_gid) == (65532, 65532)


def test_it_is_committed_through_a_rollback_journal_and_synced(file: LetterFile) -> None:
    with file._writing() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("PRAGMA synchronous").fetchone() == (3,)


def test_a_file_of_an_earlier_release_is_read_and_completed(file: LetterFile) -> None:
    """And that release goes on writing into it."""
    file.path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file.path)) as earlier:
        columns = [
            "segment",
            "stage",
            "reader",
            "queue",
            "reason",
            "trace",
            "attempts",
            "first_at",
            "last_at",
            "id",
            "payload",
        ]
        earlier.execute(f"CREATE TABLE letters (number INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(columns)})")
        insert = f"INSERT INTO letters ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for ident in ("before", "meanwhile"):
            earlier.execute(insert, ("seg", "s", "r", "in", "no", "", 1, 0.0, 0.0, ident, b"1"))
            earlier.commit()
            file.keep([LETTER])
    rows = [(row["id"], row["key"], row["time_ms"], row["traceparent"]) for row in file.show()]
    kept = ("id-1", b"\xff", 1_700_000_000_123, "00-")
    assert rows == [("before", None, 0, ""), kept, ("meanwhile", None, 0, ""), kept]


def test_numbers_are_never_given_again(file: LetterFile) -> None:
    file.keep([LETTER, LETTER])
    assert file.discard([2, 2, 9]) == 1
    file.keep([LETTER])
    assert [row["number"] for row in file.summaries()] == [3, 1]
    assert [row["number"] for row in file.summaries(1)] == [3]
    assert file.discard(None) == 2
    assert list(file.summaries()) == []


def test_more_rows_than_a_page(file: LetterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LISTED_ROWS", 3)
    monkeypatch.setattr(module, "_SHOWN_ROWS", 3)
    file.keep([LETTER] * 10)
    assert [row["number"] for row in file.summaries()] == list(range(10, 0, -1))
    assert [row["number"] for row in file.summaries(7)] == list(range(10, 3, -1))
    assert [row["number"] for row in file.show()] == list(range(1, 11))
    assert [row["number"] for row in file.show([4, 2, 99])] == [2, 4]


def test_an_absent_file_is_empty_and_is_not_made_by_looking(file: LetterFile) -> None:
    assert (list(file.summaries()), list(file.show()), file.discard(None), file.purge()) == ([], [], 0, 0)
    assert not file.path.exists()


def test_a_letter_that_failed_again_keeps_its_number_and_its_beginning(file: LetterFile) -> None:
    file.keep([LETTER])
    (before,) = file.show()
    file.keep([dataclasses.replace(LETTER, number=1, stage="later", reason="other", attempts=2, payload=b"")])
    (after,) = file.show()
    assert (after["stage"], after["reason"], after["attempts"], after["number"]) == ("later", "other", 2, 1)
    assert (after["payload"], after["first_at"]) == (LETTER.payload, before["first_at"])
    assert after["last_at"] > before["last_at"]
    file.note_death(1, "deadly")
    (after,) = file.show()
    assert (after["stage"], after["payload"]) == ("deadly", LETTER.payload)
    assert "process died" in after["reason"]


def test_all_letters_of_a_batch_are_kept_or_none_when_the_file_is_full(tmp_path: Path) -> None:
    file = LetterFile(tmp_path / "d.db", limit_bytes=64 * 1024)
    large = dataclasses.replace(LETTER, payload=bytes(20_000))
    file.keep([large])
    with pytest.raises(NotKept, match=r"d\.db: database or disk is full"):
        file.keep([large] * 3)
    assert len(list(file.summaries())) == 1
    assert file.discard([1]) == 1
    file.keep([large])


def test_a_file_that_another_process_has_is_waited_for_and_then_a_failure(
    file: LetterFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.keep([LETTER])
    other = sqlite3.connect(file.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, other.execute, ("COMMIT",)).start()
    file.keep([LETTER])
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(module, "BUSY_S", 0.05)
    with pytest.raises(NotKept, match="locked"):
        file.keep([LETTER])
    other.close()
    assert len(list(file.summaries())) == 2


def test_what_is_no_database_is_a_failure_and_left_alone(file: LetterFile) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(b"precious " * 1000)
    with pytest.raises(NotKept, match="not a database"):
        file.keep([LETTER])
    assert file.path.read_bytes() == b"precious " * 1000


def test_a_purge_takes_the_file_away_and_a_writer_that_waited_for_it_uses_the_new_one(
    file: LetterFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.keep([LETTER] * 3)
    purging, go_on = threading.Event(), threading.Event()
    unlink = Path.unlink

    def slowly(path: Path) -> None:
        purging.set()
        assert go_on.wait(5)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", slowly)
    purged: list[int] = []
    purge = threading.Thread(target=lambda: purged.append(file.purge()))
    purge.start()
    assert purging.wait(5)
    writer = threading.Thread(target=file.keep, args=([LETTER],))
    writer.start()
    threading.Timer(0.1, go_on.set).start()
    purge.join(5)
    writer.join(5)
    assert purged == [3]
    assert [row["number"] for row in file.summaries()] == [1]


def test_several_writers_of_a_new_file_get_numbers_of_their_own(file: LetterFile) -> None:
    def write() -> None:
        for _ in range(20):
            LetterFile(file.path).keep([LETTER])

    writers = [threading.Thread(target=write) for _ in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(30)
    assert [row["number"] for row in file.show()] == list(range(1, 81))


def test_letters_are_found_by_segment_for_who_reads_them(file: LetterFile) -> None:
    other = dataclasses.replace(LETTER, segment="other")
    file.keep([LETTER, other, dataclasses.replace(LETTER, queue="in2"), LETTER])
    assert file.readers("seg", [1, 2, 3, 9]) == {("reader", "in"): [1], ("reader", "in2"): [3]}
