from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.control import LINE_LIMIT_BYTES, ControlServer
from fogline.runtimes.errors import NotKept
from fogline.runtimes.message import Item
from fogline.runtimes.spec import CONTROL_VERSION
from fogline.runtimes.taps import BUFFERED_RECORDS, RECORD_LIMIT_BYTES, Taps
from support.segments import Control, wait_until


class FakeSegment:
    spec_digest = "d" * 64
    queues: tuple[str, ...] = ("in", "a..b")

    def __init__(self) -> None:
        self.taps = Taps()
        self.bound = 0
        self.drains: list[float] = []
        self.revision = ""

    def status(self) -> dict[str, Any]:
        return {"state": "ready"}

    def request_bind(self) -> None:
        self.bound += 1

    def request_drain(self, deadline_s: float, leaving: Collection[str] = ()) -> None:
        self.drains.append(deadline_s)

    def request_routes(self, revision: str) -> None:
        self.revision = revision

    def request_replay(self, numbers: Iterable[int]) -> int:
        if not (found := list(numbers)):
            raise NotKept("dead letters /d: disk I/O error")
        return len([each for each in found if each < 10])


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Deeper than a socket's path may be long."""
    folder = tmp_path / ("long" * 20) / ("deep" * 20)
    folder.mkdir(parents=True)
    (folder / "nonce").write_text("secret\n")
    return folder


@pytest.fixture
def segment(workspace: Path) -> Iterator[FakeSegment]:
    fake = FakeSegment()
    server = ControlServer(workspace, fake)
    server.start()
    yield fake
    server.stop()


@pytest.fixture
def control(segment: FakeSegment, workspace: Path) -> Iterator[Control]:
    with Control(workspace) as connection:
        yield connection


def test_the_socket_is_its_owners_alone_and_goes_with_the_server(workspace: Path) -> None:
    server = ControlServer(workspace, FakeSegment())
    server.start()
    assert stat.S_IMODE((workspace / "control.sock").stat().st_mode) == 0o600
    server.stop()
    assert not (workspace / "control.sock").exists()


def test_a_socket_left_by_a_crash_is_replaced(workspace: Path) -> None:
    (workspace / "control.sock").touch()
    server = ControlServer(workspace, FakeSegment())
    server.start()
    with Control(workspace) as connection:
        assert connection.ask("status")["ok"]
    server.stop()


def test_hello_tells_this_process_from_another(control: Control) -> None:
    good = control.ask("hello", nonce="secret", spec_digest="", version=CONTROL_VERSION)
    assert good == {
        "id": "hello",
        "ok": True,
        "pid": os.getpid(),
        "version": CONTROL_VERSION,
        "spec_digest": "d" * 64,
    }
    assert "nonce" in control.ask("hello", nonce="other", spec_digest="", version=1)["error"]
    assert "speaks control version" in control.ask("hello", nonce="secret", spec_digest="", version=9)["error"]


def test_bind_and_drain_are_passed_on(control: Control, segment: FakeSegment) -> None:
    assert control.ask("bind") == {"id": "bind", "ok": True}
    assert control.ask("bind")["ok"]
    assert control.ask("drain", deadline_s=2.5)["ok"]
    assert (segment.bound, segment.drains) == (2, [2.5])


def test_the_revision_is_passed_on(control: Control, segment: FakeSegment) -> None:
    assert control.ask("routes", revision=7)["ok"] is True
    assert segment.revision == "7"


def test_replay_tells_how_many_letters_are_its_own_or_why_it_cannot_tell(control: Control) -> None:
    assert control.ask("replay", letters=[1, 2, 30]) == {"id": "replay", "ok": True, "accepted": 2}
    assert control.ask("replay", letters=[])["error"] == "dead letters /d: disk I/O error"
    assert "not a request" in control.ask("replay", letters="x")["error"]


@pytest.mark.parametrize("request_", ["{", "[]", "{}", '{"id": 1}', '{"op": "hello", "id": 1}'])
def test_what_is_no_request_is_answered_with_an_error_and_the_connection_stays(control: Control, request_: str) -> None:
    control.tell(request_)
    answer = control.line()
    assert answer["ok"] is False
    assert "not a request" in answer["error"]
    assert control.ask("status")["state"] == "ready"


def test_an_unknown_op_is_an_error(control: Control) -> None:
    assert control.ask("fly") == {"id": "fly", "ok": False, "error": "unknown op 'fly'"}


def test_requests_in_one_write_are_answered_in_order(control: Control) -> None:
    control.tell('{"op":"status","id":1}\n{"op":"status","id":2}')
    assert [control.line()["id"], control.line()["id"]] == [1, 2]


def test_a_line_without_end_is_hung_up_on(control: Control, segment: FakeSegment, workspace: Path) -> None:
    with contextlib.suppress(ConnectionError):  # hung up on before the end of the line, or after
        control.tell("x" * (2 * LINE_LIMIT_BYTES))
    with pytest.raises((ValueError, ConnectionError)):
        control.line()
    with Control(workspace) as other:
        assert other.ask("status")["ok"]


def offer(segment: FakeSegment, *payloads: bytes) -> None:
    segment.taps.offer("a..b", [Item(0, "", payload) for payload in payloads])


def test_a_tap_answers_with_records_and_an_end(control: Control, segment: FakeSegment) -> None:
    assert control.ask("tap", queue="a..b", count=3) == {"id": "tap", "ok": True}
    large = b'"' + b"x" * RECORD_LIMIT_BYTES + b'"'
    offer(segment, b'{"n":1}', b"not json", large, b"4")
    assert control.line() == {"id": "tap", "record": {"n": 1}}
    assert control.line() == {"id": "tap", "record": "not json"}
    cut = control.line()
    assert cut["truncated"]
    assert len(cut["record"]) < RECORD_LIMIT_BYTES + 100
    assert control.line() == {"id": "tap", "last": True}
    assert segment.taps.queues == {}


def test_a_tap_is_lossy_never_larger_than_its_buffer(control: Control, segment: FakeSegment) -> None:
    control.ask("tap", queue="a..b", count=10 * BUFFERED_RECORDS)
    (tap,) = segment.taps.queues["a..b"]
    offer(segment, *([b"1"] * 5 * BUFFERED_RECORDS))
    assert len(tap._buffer) <= BUFFERED_RECORDS


def test_many_askers_at_once_and_one_that_leaves(segment: FakeSegment, workspace: Path) -> None:
    with Control(workspace) as first, Control(workspace) as second:
        with Control(workspace) as leaving:
            leaving.ask("tap", queue="a..b", count=5)
            first.ask("tap", queue="a..b", count=1)
        wait_until(lambda: len(segment.taps.queues["a..b"]) == 1, "the tap of the one that left is gone")
        offer(segment, b"1")
        assert first.line()["record"] == 1
        assert second.ask("status")["ok"]


def test_a_tap_on_a_queue_that_is_not_here_names_those_that_are(control: Control) -> None:
    assert "there are in, a..b" in control.ask("tap", queue="other", count=1)["error"]


def test_a_tap_of_no_count_goes_on_until_its_asker_leaves(segment: FakeSegment, workspace: Path) -> None:
    with Control(workspace) as control:
        control.ask("tap", queue="a..b", count=0)
        for _ in range(3):
            offer(segment, *([b"1"] * BUFFERED_RECORDS))
            assert {control.line()["record"] for _ in range(BUFFERED_RECORDS)} == {1}
    wait_until(lambda: segment.taps.queues == {}, "the tap is gone")
