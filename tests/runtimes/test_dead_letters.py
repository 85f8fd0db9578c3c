"""What becomes of a message with a failing record: letters, drops, copies, holds and replays, over memory queues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fogline.runtimes.errors import NotKept, RecordFailed
from fogline.runtimes.letter_file import LetterFile
from fogline.runtimes.spec import OnErrorSpec
from fogline.runtimes.suspects import Suspects, room_bytes
from support.plant import MAX, STOP, Plant
from support.segments import holds, wait_until

LETTER, DROP = OnErrorSpec(), OnErrorSpec(retries=1, then="drop")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Callable[..., Plant]]:
    made: list[Plant] = []

    def make(*wires: Any, **more: Any) -> Plant:
        given: dict[str, Any] = {"on_error": LETTER, "letters": LetterFile(tmp_path / "d.db")}
        made.append(Plant(*wires, **given | more))
        return made[-1]

    yield make
    for each in made:
        each.poller.close()


def same(record: Any) -> list[Any]:
    return [record]


def odd(record: Any) -> list[Any]:
    if record % 2 == 0:
        raise ValueError(f"{record} is even")
    return [record]


def letters(line: Plant) -> list[tuple[Any, str, str]]:
    return [(orjson.loads(row["payload"]), row["stage"], row["reason"]) for row in line.letters.show()]


def test_a_failing_message_is_a_letter_and_acknowledged_while_the_others_pass(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "a..b", lambda n: [n + 1]), ("b", "a..b", "out", odd))
    line.feed(*range(10))
    line.run()
    assert line.out() == [1, 3, 5, 7, 9]
    assert letters(line) == [(n, "b", f"ValueError: {n + 1} is even") for n in range(1, 10, 2)]
    first = next(line.letters.show())
    assert (first["attempts"], first["reader"], first["queue"], first["segment"]) == (4, "a", "in", "segment")
    assert "odd" in first["trace"]
    assert line.queues["in"].unacknowledged == {}
    assert line.row("a") == {"in": 10, "done": 10, "out": 10}
    assert line.row("b") == {"in": 10, "done": 5, "dead_lettered": 5, "out": 5}


def test_a_message_with_one_failed_part_sends_nothing_and_is_one_letter(plant: Callable[..., Plant]) -> None:
    seen: list[Any] = []

    def last(record: Any) -> list[Any]:
        seen.append(record)
        return [record]

    line = plant(
        ("split", "in", "split..odd side", lambda n: [n, n + 1, n + 2, n + 3]),
        ("odd", "split..odd", "odd..last", odd),
        ("last", "odd..last", "out", last),
        on_error={"odd": OnErrorSpec(retries=0)},
    )
    line.feed(1)
    line.run()
    assert (line.out(), line.out("side"), seen) == ([], [], [])
    assert letters(line) == [(1, "odd", "ValueError: 2 is even")]
    assert line.row("split") == {"in": 1, "done": 1, "out": 4}
    assert line.row("odd") == {"in": 4, "done": 2, "dead_lettered": 2, "out": 2}
    assert line.row("last") == {}


def test_what_is_not_sent_did_not_go_out(plant: Callable[..., Plant]) -> None:
    line = plant(("early", "in", "out", same), ("late", "in2", "out2", same), ("odd", "in3", "out3", odd))
    line.feed(1, 2, queue="in3")
    line.feed(5)
    line.run()
    assert line.row("odd") == {"in": 2, "done": 1, "dead_lettered": 1, "out": 1}
    both = plant(("a", "in", "a..b a..c", same), ("b", "a..b", "out", same), ("c", "a..c", "out2", odd))
    both.feed(2, 3)
    both.run()
    assert (both.out(), both.out("out2")) == ([3], [3])
    assert both.row("b") == {"in": 2, "done": 2, "out": 1}


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_record_is_tried_again_as_often_as_the_stage_says(plant: Callable[..., Plant], retries: int) -> None:
    calls: list[int] = []

    def fail(record: Any) -> list[Any]:
        calls.append(record)
        raise ValueError

    line = plant(("a", "in", "out", fail), on_error=OnErrorSpec(retries=retries))
    line.feed(7)
    line.run()
    assert calls == [7] * (1 + retries)
    assert [row["attempts"] for row in line.letters.show()] == [1 + retries]


def test_bytes_that_are_no_record_are_letters_as_they_came_after_one_attempt(plant: Callable[..., Plant]) -> None:
    bad = [b"", b"\xff\xfe", b"{", b"[" * 10_000 + b"]" * 10_000, b"NaN", b'"' + b"x" * (1 << 20) + b'"', b"\0"]
    line = plant(("a", "in", "out", same))
    line.feed(1, *bad, 2)
    line.run()
    assert line.out() == [1, 2]
    rows = list(line.letters.show())
    assert [row["payload"] for row in rows] == bad
    assert {row["attempts"] for row in rows} == {1}
    assert line.row("a") == {"in": 9, "done": 2, "dead_lettered": 7, "out": 2}


def test_drop_takes_the_record_alone_and_leaves_the_rest_of_its_message(plant: Callable[..., Plant]) -> None:
    line = plant(("split", "in", "split..odd", lambda n: [n, n + 1]), ("odd", "split..odd", "out", odd), on_error=DROP)
    line.feed(1, 3)
    line.run()
    assert line.out() == [1, 3]
    assert line.row("odd") == {"in": 4, "done": 2, "dropped": 2, "out": 2}
    assert not line.letters.path.exists()


def test_stop_ends_in_front_of_its_message_and_letters_before_it_are_kept(plant: Callable[..., Plant]) -> None:
    def picky(record: Any) -> list[Any]:
        return [1 // (record - 3)]

    line = plant(("odd", "in", "odd..b", odd), ("b", "odd..b", "out", picky), on_error={"b": STOP})
    line.feed(1, 2, 3, 4, 5)
    with pytest.raises(RecordFailed) as caught:
        line.run()
    assert (caught.value.failure.stage, caught.value.failure.attempts) == ("b", 3)
    assert letters(line) == [(2, "odd", "ValueError: 2 is even")]
    line.sources["in"].close()
    assert [orjson.loads(each) for each in line.queues["in"].payloads] == [3, 4, 5]
    row = line.row("odd")
    assert row["in"] == row["done"] + row["dead_lettered"] + row["in_flight"]


@pytest.mark.parametrize("then", ["dead-letter", "drop"])
def test_a_copy_of_the_message_goes_to_the_queue_and_is_confirmed_first(plant: Callable[..., Plant], then: str) -> None:
    policy = OnErrorSpec(retries=0, then=then, queue="trash")
    line = plant(("a", "in", "a..odd", lambda n: [n * 10 + 2]), ("odd", "a..odd", "out", odd), on_error={"odd": policy})
    trash = line.sinks["odd", "trash"]
    trash.hold = True
    line.feed(7)
    pumping = threading.Thread(target=line.run)
    pumping.start()
    wait_until(lambda: line.out("trash") == [7], "the copy")
    holds(lambda: len(line.queues["in"].unacknowledged) == 1, 0.05)
    trash.hold = False
    trash.confirm()
    pumping.join(10)
    assert line.queues["in"].unacknowledged == {}
    assert [len(each) for each in (trash.ids, list(line.letters.show()))] == [1, then == "dead-letter"]
    assert "/" not in trash.ids[0]


def test_a_letter_that_cannot_be_kept_holds_its_source_alone_until_it_can(
    plant: Callable[..., Plant], tmp_path: Path
) -> None:
    line = plant(("odd", "in", "out", odd), ("b", "in2", "out2", same), letters=LetterFile(tmp_path / "gone" / "d.db"))
    (tmp_path / "gone").write_text("in the way")
    line.feed(*range(20))
    line.feed(*range(6), queue="in2")
    pumping = threading.Thread(target=line.pump.run)
    pumping.start()
    wait_until(lambda: line.pump.held, "the hold")
    assert "gone" in line.pump.held
    wait_until(lambda: len(line.out("out2")) == 6, "the other source goes on")
    holds(lambda: len(line.queues["in"].unacknowledged) == MAX, 0.1)
    assert line.row("odd") == {"in": MAX, "in_flight": MAX}
    (tmp_path / "gone").unlink()
    wait_until(lambda: len(line.out()) == 10, "it goes on by itself")
    line.pump.finish(5)
    pumping.join(10)
    assert line.pump.held == ""
    assert len(letters(line)) == 10
    assert line.queues["in"].unacknowledged == {}


def poison(record: Any) -> list[Any]:
    """A stage whose process dies at 6."""
    if record == 6:
        raise _Died
    return [record]


class _Died(BaseException):
    """Passed through everything, as a death."""


def lives(plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch, policy: OnErrorSpec, count: int) -> Plant:
    """As many processes after one another as it takes; each begins with what its forerunner left."""
    monkeypatch.setattr("fogline.runtimes.attempts._processed", lambda framework, records: framework.process(records))
    room = memoryview(bytearray(room_bytes(MAX)))
    queue: list[Any] = list(range(10))
    out: list[Any] = []
    for life in range(count):
        line = plant(
            ("a", "in", "a..b", same), ("b", "a..b", "out", poison), on_error=policy, suspects=Suspects(MAX, room)
        )
        line.feed(*queue)
        try:
            line.run()
        except _Died:
            assert life < count - 1
        out += line.out()
        line.sources["in"].close()
        queue = [orjson.loads(each) for each in line.queues["in"].payloads]
    assert sorted(set(out)) == [n for n in range(10) if n != 6]
    return line


def test_what_kills_the_process_is_found_alone_and_becomes_a_letter(
    plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = lives(plant, monkeypatch, OnErrorSpec(retries=2), 1 + 3 + 1)  # in a batch, three times alone, the last
    assert letters(line) == [(6, "b", "the process died while this record was in it (attempt 3)")]
    assert line.row("b")["dead_lettered"] == 1
    assert line.row("b")["in"] == line.row("b")["done"] + 1


def test_what_kills_the_process_is_dropped_where_the_stage_says_so(
    plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = lives(plant, monkeypatch, OnErrorSpec(retries=0, then="drop"), 1 + 1 + 1)
    assert not line.letters.path.exists()
    assert line.row("b")["dropped"] == 1


def test_suspects_run_alone_in_any_order_and_the_others_together(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", same))
    line.feed(*range(8))
    ids = {n: message.id for n, message in enumerate(line.sources["in"].take(8, 0))}
    line.sources["in"].queue.give_back()
    line.suspects.enter([ids[5], ids[2], "of another time"])
    line.suspects = Suspects(MAX, line.suspects._room)
    line.pump._suspects = line.suspects
    line.run()
    assert line.frameworks["a"].batches == [[0, 1], [2], [3], [4], [5], [6, 7]]
    assert line.out() == list(range(8))
    assert [bool(line.suspects.find(each)) for each in (ids[5], ids[2], "of another time")] == [False, False, True]


def test_a_suspect_waits_until_what_came_before_it_is_acknowledged(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", same))
    sink = line.sinks["a", "out"]
    sink.hold = True
    line.feed(1, 2, 3)
    ids = [message.id for message in line.sources["in"].take(3, 0)]
    line.sources["in"].queue.give_back()
    line.suspects.enter(ids[1:])
    line.pump._suspects = Suspects(MAX, line.suspects._room)
    pumping = threading.Thread(target=line.run)
    pumping.start()
    for count in (1, 2, 3):

        def sent(count: int = count) -> bool:
            return len(line.out()) == count

        wait_until(sent, "the next one")
        holds(sent, 0.05)
        sink.confirm()
    pumping.join(10)
    assert line.out() == [1, 2, 3]


def failed(plant: Callable[..., Plant], *records: int) -> Plant:
    """A line whose even messages are letters."""
    line = plant(("a", "in", "a..odd", same), ("odd", "a..odd", "out", odd))
    line.feed(*records)
    line.run()
    return line


def test_a_letter_that_passes_on_replay_is_sent_and_deleted_and_one_that_fails_stays(
    plant: Callable[..., Plant],
) -> None:
    failed(plant, 2, 4, 6)
    line = plant(("a", "in", "a..odd", lambda n: [n + (n == 4)]), ("odd", "a..odd", "out", odd), on_error=DROP)
    before = {row["number"]: row for row in line.letters.show()}
    pumping = threading.Thread(target=line.pump.run)
    pumping.start()
    line.replays[0].request([1, 2, 2, 99])
    wait_until(lambda: [row["number"] for row in line.letters.show()] == [1, 3], "the good one is gone")
    wait_until(lambda: next(line.letters.show([1]))["attempts"] == 2, "the other one is noted")
    line.pump.finish(5)
    pumping.join(10)
    assert line.out() == [5]
    first, third = line.letters.show()
    assert first["last_at"] > before[1]["last_at"]
    assert (first["payload"], third) == (before[1]["payload"], before[3])
    assert line.row("odd") == {"in": 2, "done": 1, "dead_lettered": 1, "out": 1}


def test_a_replayed_letter_stays_until_its_output_is_confirmed(plant: Callable[..., Plant]) -> None:
    failed(plant, 2)
    line = plant(("a", "in", "a..odd", same), ("odd", "a..odd", "out", same))
    line.sinks["odd", "out"].hold = True
    pumping = threading.Thread(target=line.pump.run)
    pumping.start()
    line.replays[0].request([1])
    wait_until(lambda: line.out() == [2], "sent")
    holds(lambda: len(list(line.letters.show())) == 1, 0.05)
    line.sinks["odd", "out"].confirm()
    wait_until(lambda: not list(line.letters.show()), "deleted")
    line.pump.finish(5)
    pumping.join(10)


def test_a_replay_from_a_file_that_is_busy_is_tried_again(
    plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(plant, 2)
    line = plant(("a", "in", "a..odd", same), ("odd", "a..odd", "out", same))
    busy, show, discard = [1, 1], line.letters.show, line.letters.discard

    def once(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if busy:
                busy.pop()
                raise NotKept("busy")
            return method(*arguments)

        return call

    monkeypatch.setattr(line.replays[0]._file, "show", once(show))
    monkeypatch.setattr("fogline.runtimes.replay.AGAIN_S", 0.01)
    pumping = threading.Thread(target=line.pump.run)
    pumping.start()
    line.replays[0].request([1])
    wait_until(lambda: line.out() == [2], "sent")
    wait_until(lambda: not list(LetterFile(line.letters.path).show()), "deleted")
    busy.append(1)
    monkeypatch.setattr(line.replays[0]._file, "discard", once(discard))
    LetterFile(line.letters.path).keep([line.pump._all[0].letter(*_letter_parts())])
    line.replays[0].request([2])
    wait_until(lambda: not busy and not list(LetterFile(line.letters.path).show()), "deleted after all")
    line.pump.finish(5)
    pumping.join(10)


def _letter_parts() -> tuple[Any, Any]:
    from fogline.runtimes.errors import Failure
    from fogline.runtimes.message import Message

    return Message(b"8", "id", 0, False, None, 0.0), Failure("odd", "why", "", b"8", 1, 0)
