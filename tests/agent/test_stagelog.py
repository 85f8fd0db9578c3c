"""Reading a log from a place on, and following it over its rotation."""

from __future__ import annotations

import os
import random
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fogline.agent.host.stagelog import From, StageLog, last_lines
from fogline.runtimes.container import shim

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC).timestamp()


def stamped(second: int, text: str) -> bytes:
    return f"2026-01-31T12:00:{second:02d}.000Z INFO {text}\n".encode()


EVERYTHING = From()


def read(log: Path, begin: From = EVERYTHING) -> bytes:
    with closing(StageLog(log)) as reader:
        reader.begin(begin)
        return everything(reader) + reader.rest()


def everything(reader: StageLog) -> bytes:
    found = b""
    while piece := reader.read():
        assert len(piece) <= 65536
        found += piece
    return found


def rotate(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(log.parent)
    monkeypatch.setattr(shim, "LOG_BYTES", 0)
    shim.rotate_log(log.name)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Last written to three seconds after noon."""
    (tmp_path / "stage.log.1").write_bytes(stamped(1, "one") + b"printed after one\n" + stamped(2, "two"))
    (tmp_path / "stage.log").write_bytes(b"printed after two\n" + stamped(3, "three") + b"at last")
    os.utime(tmp_path / "stage.log.1", (NOON + 2, NOON + 2))
    os.utime(tmp_path / "stage.log", (NOON + 3, NOON + 3))
    return tmp_path / "stage.log"


def whole(log: Path) -> bytes:
    return log.with_name("stage.log.1").read_bytes() + log.read_bytes()


def test_everything_in_order(log: Path) -> None:
    assert read(log) == whole(log)


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "stage.log", From(1.0, 1, 1)) == b""
    (tmp_path / "stage.log").touch()
    assert read(tmp_path / "stage.log", From(1.0, 1, 1)) == b""


@pytest.mark.parametrize(
    ("lines", "first"),
    [(1, "at last"), (2, "2026-01-31T12:00:03"), (5, "printed after one"), (6, "2026-01-31T12:00:01"), (99, "2026")],
)
def test_the_last_lines(log: Path, lines: int, first: str) -> None:
    found = read(log, From(tail_lines=lines))
    assert found == b"".join(whole(log).splitlines(keepends=True)[-lines:])
    assert found.decode().startswith(first)


def test_the_last_lines_of_long_ones(tmp_path: Path) -> None:
    """Against the obvious way to do it."""
    chance = random.Random(7)
    lines = [b"x" * chance.randrange(0, 50_000) + b"\n" for _ in range(40)]
    log = tmp_path / "stage.log"
    log.with_name("stage.log.1").write_bytes(b"".join(lines[:20]))
    log.write_bytes(b"".join(lines[20:]))
    for count in range(1, 42):
        assert read(log, From(tail_lines=count)) == b"".join(lines[-count:])


@pytest.mark.parametrize("wanted_bytes", [3, 7, 8, 60, 95])
def test_the_last_bytes_begin_with_a_line(log: Path, wanted_bytes: int) -> None:
    found = read(log, From(tail_bytes=wanted_bytes))
    assert len(found) <= wanted_bytes
    assert whole(log).endswith(found)
    if wanted_bytes >= 8:  # there is a line's beginning in them
        assert whole(log)[: -len(found)].endswith(b"\n")


@pytest.mark.parametrize(
    ("second", "first"),
    [(0, b"2026-01-31T12:00:01"), (1, b"2026-01-31T12:00:01"), (2, b"2026-01-31T12:00:02"), (3, b"2026-01-31T12:00:03"),
     (4, b"")],
)  # fmt: skip
def test_since_a_moment(log: Path, second: int, first: bytes) -> None:
    found = read(log, From(since_s=NOON + second))
    assert found.startswith(first)
    assert bool(found) == bool(first)
    assert whole(log).endswith(found)


def test_what_is_printed_has_the_time_of_the_stamp_before_it(log: Path) -> None:
    assert b"printed after two" in read(log, From(since_s=NOON + 2))
    assert b"printed after two" not in read(log, From(since_s=NOON + 2.5))


def test_behind_the_last_stamp_a_line_may_be_as_new_as_the_file(log: Path) -> None:
    os.utime(log, (NOON + 60, NOON + 60))
    assert read(log, From(since_s=NOON + 60)) == b"at last"
    assert read(log, From(since_s=NOON + 61)) == b""
    log.with_name("stage.log.1").unlink()
    log.write_bytes(b"only\nprinted\n")
    assert read(log, From(since_s=NOON)) == b"only\nprinted\n"


def test_the_latest_of_all_places_counts(log: Path) -> None:
    assert read(log, From(NOON + 1, 1, 1000)) == b"at last"
    assert read(log, From(NOON + 3, 99, 1000)) == stamped(3, "three") + b"at last"
    assert read(log, From(NOON + 1, 99, 10)) == b"at last"


def test_followed_over_rotations_nothing_is_missed_and_nothing_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(11)
    log = tmp_path / "stage.log"
    log.touch()
    written = found = b""
    with log.open("ab", buffering=0) as stage, closing(StageLog(log)) as reader:
        reader.begin(From())
        for turn in range(300):
            line = f"{turn} {'y' * chance.randrange(200)}\n".encode()
            stage.write(line)
            written += line
            if chance.random() < 0.3:
                found += everything(reader)
            if chance.random() < 0.1:
                found += everything(reader)  # a second rotation may not overtake the reader
                stage.write(b"just before\n")
                written += b"just before\n"
                rotate(log, monkeypatch)
        found += everything(reader)
    assert found == written


def test_a_rotation_in_the_middle_of_what_is_old(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole(log)
    with closing(StageLog(log)) as reader:
        reader.begin(From())
        found = reader.read()
        rotate(log, monkeypatch)
        log.write_bytes(b" the end\n")
        found += everything(reader)
    assert found == expected + b" the end\n"


def test_a_line_is_held_until_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "stage.log"
    log.write_bytes(b"half a")
    with closing(StageLog(log)) as reader:
        reader.begin(From())
        assert reader.read() == b""
        with log.open("ab") as stage:
            stage.write(b" line\nand")
        assert reader.read() == b"half a line\n"
        assert reader.rest() == b"and"
        log.write_bytes(b"")


def test_a_line_without_end_comes_in_parts(tmp_path: Path) -> None:
    log = tmp_path / "stage.log"
    log.write_bytes(b"z" * 200_000)
    assert read(log) == b"z" * 200_000


def test_a_workspace_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "stage.log"
    log.write_bytes(b"former life\n")
    with closing(StageLog(log)) as reader:
        reader.begin(From())
        assert everything(reader) == b"former life\n"
        log.unlink()
        assert everything(reader) == b""
        log.write_bytes(b"new\n")
        assert everything(reader) == b"new\n"


def test_the_last_lines_of_a_process_that_ended(tmp_path: Path) -> None:
    log = tmp_path / "stage.log"
    assert last_lines(log) == ""
    log.with_name("stage.log.1").write_bytes(b"".join(b"%d\n" % number for number in range(100)))
    log.write_bytes(b"last \xff words\nand no end")
    assert last_lines(log).splitlines() == [*map(str, range(92, 100)), "last \ufffd words", "and no end"]
    log.write_bytes(b"w" * 5000 + b"\n" + b"v" * 1000)
    assert last_lines(log) == "v" * 1000
    log.write_bytes(b"w" * 5000)
    assert last_lines(log) == "w" * 2048
