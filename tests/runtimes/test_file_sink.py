"""Writing files: confirmed is on the disk, no half lines, a full disk holds, one writer."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fogline.runtimes.connectors.base import Receipt, Sink
from fogline.runtimes.connectors.file import FileConnector
from fogline.runtimes.errors import BackOff, BadMessage, NotConnected
from fogline.runtimes.message import Item
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec, SpecError
from support.segments import wait_until


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def writer(tmp_path: Path, poller: Poller) -> Iterator[Callable[..., Sink]]:
    """An open writer of `out`; each time as of another process unless `files` is given."""
    made: list[Sink] = []

    def make(name: str = "out.jsonl", files: FileConnector | None = None, **options: Any) -> Sink:
        sink = (files or FileConnector()).sink(an_end(tmp_path / name, **options), poller)
        made.append(sink)
        sink.open()
        return sink

    yield make
    for each in made:
        each.close()


def an_end(path: Path, **options: Any) -> EndpointSpec:
    formats = {".csv": "csv", ".txt": "text"}
    return EndpointSpec(
        "q", "s", "file", {"path": str(path), "format": formats.get(path.suffix, "json"), **options}, "w"
    )


def send(sink: Sink, *payloads: bytes) -> Receipt:
    return sink.send([Item(0, "", payload) for payload in payloads])


def confirmed(poller: Poller, receipt: Receipt) -> None:
    def done() -> bool:
        poller.wait(0.01)
        return receipt.done

    wait_until(done, "confirmed")


def test_what_is_sent_together_is_confirmed_together_once_it_is_on_the_disk(
    tmp_path: Path, poller: Poller, writer: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    real = os.fsync

    def noted(handle: int) -> None:
        real(handle)
        synced.append((tmp_path / "out.jsonl").read_bytes())

    sink = writer()
    monkeypatch.setattr(os, "fsync", noted)
    receipts = [send(sink, b"1", b"2"), send(sink, b"3")]
    assert not any(receipt.done for receipt in receipts)
    for receipt in receipts:
        confirmed(poller, receipt)
    assert synced == [b"1\n2\n3\n"]


def test_json_is_a_line_whatever_it_was(tmp_path: Path, poller: Poller, writer: Callable[..., Sink]) -> None:
    confirmed(poller, send(writer(), b'{"a":\n 1}', b"not json", b"\xff\n", b'{"a": 2}'))
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert lines == [b'{"a":1}', b'"not json"', b'"\\\\xff\\n"', b'{"a": 2}']
    assert all(orjson.loads(line) for line in lines)


def test_csv_has_the_columns_of_the_first_record(tmp_path: Path, poller: Poller, writer: Callable[..., Sink]) -> None:
    sink = writer("out.csv")
    records = [{"n": 1, "name": 'a "b", c'}, {"name": None, "n": 1.5}, {"n": True}]
    confirmed(poller, send(sink, *[sink.encoder(record) for record in records]))
    assert list(csv.reader((tmp_path / "out.csv").read_text().splitlines())) == [
        ["n", "name"], ["1", 'a "b", c'], ["1.5", ""], ["true", ""]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"n": 1, "more": 2}, "no column 'more'; it has n, name"),
        (3, "takes objects"),
        ({"n": [1]}, "no list or object"),
    ],
)
def test_what_is_no_row_is_a_bad_message(writer: Callable[..., Sink], record: Any, words: str) -> None:
    sink = writer("out.csv")
    sink.encoder({"n": 1, "name": "a"})
    with pytest.raises(BadMessage, match=words):
        sink.encoder(record)


def test_csv_goes_on_under_the_header_that_is_there(
    tmp_path: Path, poller: Poller, writer: Callable[..., Sink]
) -> None:
    (tmp_path / "out.csv").write_text("b;a\n1;2\n")
    sink = writer("out.csv", delimiter=";")
    confirmed(poller, send(sink, sink.encoder({"a": 4, "b": 3})))
    assert (tmp_path / "out.csv").read_text() == "b;a\n1;2\n3;4\n"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("out.jsonl", '{"a":1}\n{"a":', '{"a":1}\n'),
        ("out.jsonl", '{"a":', ""),
        ("out.jsonl", '{"a":1}\n{"a":2}', '{"a":1}\n{"a":2}\n'),
        ("out.csv", "a\n1\n23", "a\n1\n"),
        ("out.txt", "one\ntw", "one\n"),
    ],
)
def test_no_half_line_stays_behind_a_crash(
    tmp_path: Path, writer: Callable[..., Sink], name: str, before: str, after: str
) -> None:
    (tmp_path / name).write_text(before)
    writer(name)
    assert (tmp_path / name).read_text() == after


def test_a_file_that_holds_no_lines_is_left_alone(tmp_path: Path, writer: Callable[..., Sink]) -> None:
    (tmp_path / "out.txt").write_bytes(b"x" * 3_000_000)
    with pytest.raises(NotConnected, match="holds no lines"):
        writer("out.txt")
    assert (tmp_path / "out.txt").stat().st_size == 3_000_000


def test_a_full_disk_holds_and_nothing_is_twice_or_half_afterwards(
    tmp_path: Path, poller: Poller, writer: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = writer()
    confirmed(poller, send(sink, b"1"))
    room, real = [3], os.write

    def full(handle: int, data: Any) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = real(handle, bytes(data)[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    receipt = send(sink, b"22", b"33")
    poller.wait(0.0)
    assert not receipt.done
    assert not sink.connected
    assert sink.error == f"{tmp_path / 'out.jsonl'} cannot be written: No space left on device"
    with pytest.raises(BackOff):
        send(sink, b"44")
    monkeypatch.setattr(os, "write", real)
    confirmed(poller, receipt)
    assert (tmp_path / "out.jsonl").read_text() == "1\n22\n33\n"
    assert (sink.connected, sink.error) == (True, "")


def test_a_failed_fsync_is_not_believed_the_second_time(
    tmp_path: Path, poller: Poller, writer: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = writer()
    failing, real = [True], os.fsync

    def broken(handle: int) -> None:
        if failing.pop() if failing else False:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", broken)
    receipt = send(sink, b"1")
    confirmed(poller, receipt)
    assert failing == []
    assert (tmp_path / "out.jsonl").read_text() == "1\n"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path, poller: Poller, writer: Callable[..., Sink]) -> None:
    sink = writer("out.csv")
    confirmed(poller, send(sink, sink.encoder({"a": 1})))
    (tmp_path / "out.csv").rename(tmp_path / "out.csv.1")
    confirmed(poller, send(sink, sink.encoder({"a": 2})))
    assert (tmp_path / "out.csv.1").read_text() == "a\n1\n"
    assert (tmp_path / "out.csv").read_text() == "a\n2\n"


def test_two_stages_of_a_process_share_the_file(tmp_path: Path, poller: Poller, writer: Callable[..., Sink]) -> None:
    files = FileConnector()
    first, second = writer(files=files), writer(files=files)
    send(first, b"1")
    receipt = send(second, b"2")
    first.close()
    confirmed(poller, receipt)
    assert (tmp_path / "out.jsonl").read_text() == "1\n2\n"


def test_two_processes_do_not(writer: Callable[..., Sink]) -> None:
    writer()
    with pytest.raises(NotConnected, match="being written by another process"):
        writer()


def test_what_is_not_flushed_yet_is_written_at_the_goodbye(tmp_path: Path, writer: Callable[..., Sink]) -> None:
    sink = writer()
    send(sink, b"1")
    sink.close()
    assert (tmp_path / "out.jsonl").read_text() == "1\n"


def test_check_names_what_is_in_the_way(tmp_path: Path, poller: Poller) -> None:
    files = FileConnector()
    with pytest.raises(NotConnected, match="there is no folder"):
        files.check(an_end(tmp_path / "none" / "out.jsonl"))
    with pytest.raises(NotConnected, match="it is no file"):
        files.check(an_end(tmp_path))
    with pytest.raises(SpecError, match="names one file"):
        files.sink(an_end(tmp_path / "*.jsonl"), poller)
    files.check(an_end(tmp_path / "out.jsonl"))
    assert list(tmp_path.iterdir()) == []
