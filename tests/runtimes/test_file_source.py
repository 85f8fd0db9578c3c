"""Reading files: order, positions that survive a death, files that changed, what holds reading."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.connectors import positions
from fogline.runtimes.connectors.file import FileConnector, FileSource
from fogline.runtimes.errors import BackOff, EndOfInput, NotConnected
from fogline.runtimes.message import Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import POSITIONS_VARIABLE, EndpointSpec, SpecError

WINDOW = 4


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def reader(tmp_path: Path, poller: Poller, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FileSource]]:
    """A bound reader, as a process has it that was just started."""
    monkeypatch.setenv(POSITIONS_VARIABLE, str(tmp_path / "positions"))
    (tmp_path / "in").mkdir()
    made: list[FileSource] = []

    def make(pattern: str = "*.jsonl", **options: Any) -> FileSource:
        source = FileSource(an_end(tmp_path / "in" / pattern, **options), poller, WINDOW)
        made.append(source)
        source.open()
        source.bind()
        return source

    yield make
    for each in made:
        each.close()


def an_end(path: Path, **options: Any) -> EndpointSpec:
    return EndpointSpec("q", "s", "file", {"path": str(path), "format": "json", **options}, "reader", "group")


def write(tmp_path: Path, name: str, *numbers: int, mode: str = "w") -> Path:
    path = tmp_path / "in" / name
    with path.open(mode) as file:
        file.writelines(f"{number}\n" for number in numbers)
    return path


def drained(source: FileSource, *, ack: bool = True) -> list[Message]:
    """Everything there is now, each acknowledged."""
    found: list[Message] = []
    while True:
        try:
            messages = source.take(WINDOW, 0.0)
        except EndOfInput:
            return found
        found += messages
        if ack:
            source.ack(messages)


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.payload) for message in messages]


def test_files_come_by_name_and_each_in_its_order(tmp_path: Path, reader: Callable[..., FileSource]) -> None:
    write(tmp_path, "b.jsonl", 4, 5)
    first = write(tmp_path, "a.jsonl", 1, 2, 3)
    write(tmp_path, "a.csv", 9)
    (tmp_path / "in" / "folder.jsonl").mkdir()
    found = drained(reader())
    assert numbers(found) == [1, 2, 3, 4, 5]
    assert [message.id for message in found][:2] == [f"{first}:1", f"{first}:2"]


def test_a_glob_that_matches_nothing_is_at_its_end(reader: Callable[..., FileSource]) -> None:
    with pytest.raises(EndOfInput):
        reader().take(1, 0.0)


def test_what_came_since_is_read_by_the_next_one(tmp_path: Path, reader: Callable[..., FileSource]) -> None:
    write(tmp_path, "b.jsonl", 1, 2)
    first = reader()
    drained(first)
    first.close()
    write(tmp_path, "b.jsonl", 3, mode="a")
    write(tmp_path, "a.jsonl", 0)
    again = drained(reader())
    assert numbers(again) == [0, 3]
    assert not any(message.redelivered for message in again)


def test_csv_goes_on_in_the_middle_with_its_header(tmp_path: Path, reader: Callable[..., FileSource]) -> None:
    path = tmp_path / "in" / "a.csv"
    path.write_text("n;x\n1;a\n2;b\n3;c\n")
    first = reader("*.csv", format="csv", delimiter=";")
    first.ack(first.take(2, 0.0))
    first.close()
    (message,) = drained(reader("*.csv", format="csv", delimiter=";"))
    assert (message.payload, message.id) == (b'{"n":3,"x":"c"}', f"{path}:4")


def test_after_a_death_nothing_is_missing_and_what_comes_twice_says_so(
    tmp_path: Path, reader: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fogline.runtimes.connectors.file.SAVE_S", 0.0)
    write(tmp_path, "a.jsonl", *range(200))
    dead = reader()
    former = dead.take(WINDOW // 2, 0.0)
    acked, given = [], numbers(former)
    for _ in range(50):
        messages = dead.take(WINDOW // 2, 0.0)
        given += numbers(messages)
        dead.ack(former)
        acked += numbers(former)
        former = messages
    again = drained(reader())  # the other one never said goodbye
    assert numbers(again)[-1] == 199
    assert sorted({*acked, *numbers(again)}) == list(range(200))
    assert {n for n in numbers(again) if n in given} <= {int(m.payload) for m in again if m.redelivered}
    assert not again[-1].redelivered


def test_progress_is_on_the_disk_soon_without_any_goodbye(
    tmp_path: Path, reader: Callable[..., FileSource], poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fogline.runtimes.connectors.file.SAVE_S", 0.01)
    write(tmp_path, "a.jsonl", 1, 2, 3)
    dead = reader()
    dead.ack(dead.take(2, 0.0))
    poller.wait(0.05)
    assert numbers(drained(reader())) == [3]


def test_after_a_goodbye_only_what_was_out_is_marked(tmp_path: Path, reader: Callable[..., FileSource]) -> None:
    write(tmp_path, "a.jsonl", *range(8))
    first = reader()
    first.ack(first.take(2, 0.0))
    first.take(3, 0.0)
    first.close()
    assert [(int(m.payload), m.redelivered) for m in drained(reader())] == [
        (2, True), (3, True), (4, True), (5, False), (6, False), (7, False)
    ]  # fmt: skip


def test_acknowledged_out_of_order_waits_for_the_gap(tmp_path: Path, reader: Callable[..., FileSource]) -> None:
    write(tmp_path, "a.jsonl", 1, 2, 3)
    first = reader()
    messages = first.take(3, 0.0)
    first.ack(messages[1:])
    first.close()
    assert numbers(drained(reader())) == [1, 2, 3]


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: os.truncate(path, 2), "shorter"),
    "written over": (lambda path: path.write_text("7\n8\n9\n10\n"), "written over"),
    "replaced": (lambda path: Path(shutil.copy(path, f"{path}.new")).replace(path), "replaced"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_file_that_changed_is_read_anew_and_that_is_said(
    tmp_path: Path, reader: Callable[..., FileSource], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    change, words = CHANGES[how]
    path = write(tmp_path, "a.jsonl", 1, 2, 3)
    first = reader()
    first.ack(first.take(2, 0.0))
    first.close()
    change(path)
    assert numbers(drained(reader())) == [int(line) for line in path.read_text().split()]
    assert words in caplog.text
    assert str(path) in caplog.text


def test_a_last_line_that_goes_on_later_is_no_guess(
    tmp_path: Path, reader: Callable[..., FileSource], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "in" / "a.jsonl"
    path.write_text("1\n2")
    first = reader()
    assert numbers(drained(first)) == [1, 2]
    first.close()
    path.write_text("1\n2")  # the same once more: nothing new in it
    with path.open("a") as file:
        file.write("5\n")
    assert numbers(drained(reader())) == [1, 25]
    assert "in the middle of a line" in caplog.text


def test_what_cannot_be_read_holds_and_is_passed_over_by_nothing(
    tmp_path: Path, reader: Callable[..., FileSource]
) -> None:
    bad = tmp_path / "in" / "a.csv"
    bad.write_text("n,n\n1,2\n")
    (tmp_path / "in" / "b.csv").write_text("n\n3\n")
    source = reader("*.csv", format="csv")
    with pytest.raises(BackOff):
        source.take(WINDOW, 0.0)
    assert not source.connected
    assert source.error == f"{bad}: its header names 'n' twice"
    bad.write_text("n,m\n1,2\n")
    assert [message.payload for message in drained(source)] == [b'{"n":1,"m":2}', b'{"n":3}']
    assert source.connected
    assert source.error == ""


def test_nothing_is_handed_out_while_positions_cannot_be_kept(
    tmp_path: Path, reader: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a.jsonl", 1)
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv(POSITIONS_VARIABLE, str(blocked / "below"))
    monkeypatch.setattr(positions.Positions, "load", lambda _: None)
    source = reader()
    with pytest.raises(BackOff):
        source.take(1, 0.0)
    assert str(blocked) in source.error


def test_positions_that_are_damaged_are_for_people_to_decide(tmp_path: Path, reader: Callable[..., FileSource]) -> None:
    write(tmp_path, "a.jsonl", 1)
    first = reader()
    drained(first)
    first.close()
    (kept,) = (tmp_path / "positions").iterdir()
    kept.write_text("{")
    with pytest.raises(NotConnected, match="remove it to read everything anew"):
        reader()


def test_release_forgets_how_far_it_was(tmp_path: Path, reader: Callable[..., FileSource]) -> None:
    path = write(tmp_path, "a.jsonl", 1, 2)
    first = reader()
    drained(first)
    first.close()
    FileConnector().release(an_end(path))
    assert numbers(drained(reader())) == [1, 2]


def test_files_that_are_long_gone_are_forgotten(
    tmp_path: Path, reader: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "MOST_PLACES", 2)
    source = reader()
    for name in "abcd":
        path = write(tmp_path, f"{name}.jsonl", 1)
        drained(source)
        path.unlink()
    source.close()
    kept = positions.Positions("reader")
    kept.load()
    assert [Path(path).stem for path in kept.places] == ["c", "d"]


def test_check_says_what_is_missing(tmp_path: Path) -> None:
    files = FileConnector()
    with pytest.raises(NotConnected, match="no file matches"):
        files.check(an_end(tmp_path / "*.jsonl"))
    with pytest.raises(SpecError, match="must be absolute"):
        files.check(an_end(Path("in.jsonl")))
    (tmp_path / "a.jsonl").write_text("1\n")
    files.check(an_end(tmp_path / "*.jsonl"))
