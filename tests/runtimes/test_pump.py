"""The pump over memory queues: what is acknowledged when, and what happens when something fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from fogline.runtimes.errors import BadMessage, RecordFailed, Superseded
from fogline.runtimes.pump import Unfinished
from fogline.runtimes.taps import Tap
from support.plant import MAX, STOP, Plant
from support.segments import holds, wait_until

ATTEMPTS = 1 + STOP.retries


@pytest.fixture
def plant() -> Iterator[Callable[..., Plant]]:
    made: list[Plant] = []

    def make(*wires: Any, **more: Any) -> Plant:
        made.append(Plant(*wires, **more))
        return made[-1]

    yield make
    for each in made:
        each.poller.close()


def double(record: Any) -> list[Any]:
    return [record * 2]


def row(plant: Plant, stage: str) -> dict[str, int]:
    return {name: count for name, count in plant.counters.snapshot()[stage].items() if count}


def test_records_go_through_in_order_and_in_batches(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", double))
    line.feed(*range(10))
    line.run()
    assert line.out() == [2 * number for number in range(10)]
    assert [len(batch) for batch in line.frameworks["a"].batches] == [4, 4, 2]
    assert row(line, "a") == {"in": 10, "done": 10, "out": 10}
    assert line.queues["in"].unacknowledged == {}


def test_an_output_is_named_after_its_input_its_stage_and_its_place(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "a..b", lambda record: [record, record]), ("b", "a..b", "out", double))
    line.feed(1)
    line.run()
    first, second = line.sinks["b", "out"].ids
    root = first.split("/")[0]
    assert (first, second) == (f"{root}/a/0/b/0", f"{root}/a/1/b/0")


def test_filtered_and_multiplied_records_are_counted_per_stage(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "a..b", lambda record: [record] * record), ("b", "a..b", "out", double))
    line.feed(0, 1, 3)
    line.run()
    assert line.out() == [2, 6, 6, 6]
    assert row(line, "a") == {"in": 3, "done": 2, "filtered": 1, "out": 4}
    assert row(line, "b") == {"in": 4, "done": 4, "out": 4}


def test_a_diamond_inside_one_process(plant: Callable[..., Plant]) -> None:
    line = plant(
        ("a", "in", "a..b a..c", lambda record: [{"n": record}]),
        ("b", "a..b", "b..d", lambda record: [record.update(by="b") or record]),
        ("c", "a..c", "c..d", lambda record: [record.update(by="c") or record]),
        ("d", "b..d c..d", "out", lambda record: [record]),
    )
    line.feed(1, 2)
    line.run()
    assert line.out() == [
        {"n": 1, "by": "b"},
        {"n": 2, "by": "b"},
        {"n": 1, "by": "c"},
        {"n": 2, "by": "c"},
    ]


def test_several_sources_are_served_in_turn(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in other", "out", double))
    line.feed(*range(8))
    line.feed(*range(100, 108), queue="other")
    line.run()
    assert sorted(line.out()) == sorted([2 * n for n in range(8)] + [2 * n for n in range(100, 108)])
    firsts = [batch[0] >= 100 for batch in line.frameworks["a"].batches]
    assert firsts[0] != firsts[1]


def test_nothing_is_acknowledged_before_its_output_is_confirmed(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", double))
    sink = line.sinks["a", "out"]
    sink.hold = True
    line.feed(*range(20))
    pumping = threading.Thread(target=line.run)
    pumping.start()
    wait_until(lambda: len(line.queues["out"].waiting) == 2 * MAX, "a full window")
    holds(lambda: len(line.queues["out"].waiting) == 2 * MAX, 0.05)
    assert len(line.queues["in"].unacknowledged) == 2 * MAX
    assert row(line, "a") == {"in": 8, "in_flight": 8}
    sink.hold = False
    sink.confirm()
    pumping.join(10)
    assert line.out() == [2 * number for number in range(20)]
    assert row(line, "a") == {"in": 20, "done": 20, "out": 20}


def test_a_full_sink_holds_the_source_back_and_loses_nothing(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", double))
    out = line.queues["out"]
    out.limit = 4
    line.feed(*range(12))
    pumping = threading.Thread(target=line.run)
    pumping.start()
    received: list[Any] = []

    def read() -> bool:
        while out.waiting:
            received.append(orjson.loads(out.waiting.popleft()[1]))
        return not pumping.is_alive()

    wait_until(read, "the end of the input")
    assert received == [2 * number for number in range(12)]


def test_a_record_that_fails_twice_passes_at_the_third_attempt_from_fresh_copies(
    plant: Callable[..., Plant],
) -> None:
    seen: list[Any] = []

    def flaky(record: Any) -> list[Any]:
        if record["n"] == 1:
            seen.append(dict(record))
            record["spoilt"] = True
            if len(seen) < ATTEMPTS:
                raise ValueError("not yet")
        return [record["n"]]

    line = plant(("a", "in", "out", flaky))
    line.feed({"n": 0}, {"n": 1}, {"n": 2})
    line.run()
    assert line.out() == [0, 1, 2]
    assert seen == [{"n": 1}] * ATTEMPTS


def failing_at_five(record: Any) -> list[Any]:
    return [10 // (record - 5)]


def test_a_record_that_fails_for_good_ends_the_segment_with_all_before_it_acknowledged(
    plant: Callable[..., Plant],
) -> None:
    line = plant(("a", "in", "a..b", double), ("b", "a..b", "out", lambda n: failing_at_five(n // 2)))
    line.feed(*range(10))
    with pytest.raises(RecordFailed) as caught:
        line.run()
    failure = caught.value.failure
    assert (failure.stage, failure.record, failure.attempts) == ("b", b"10", ATTEMPTS)
    assert failure.reason.startswith("ZeroDivisionError")
    assert "failing_at_five" in failure.trace
    assert "graph.py" not in failure.trace
    assert line.out() == [10 // (n - 5) for n in range(5)]
    line.sources["in"].close()
    assert [orjson.loads(payload) for payload in line.queues["in"].payloads] == [5, 6, 7, 8, 9]
    assert row(line, "a") == {"in": 8, "done": 5, "in_flight": 3, "out": 5}
    assert row(line, "b") == {"in": 8, "done": 5, "in_flight": 3, "out": 5}


def test_what_cannot_be_decoded_is_not_tried_again_and_never_reaches_user_code(
    plant: Callable[..., Plant],
) -> None:
    line = plant(("a", "in", "out", double))
    line.feed(1, b"{", 3)
    with pytest.raises(RecordFailed) as caught:
        line.run()
    failure = caught.value.failure
    assert (failure.attempts, failure.record, failure.trace) == (1, b"{", "")
    assert failure.reason.startswith("the message is not JSON")
    assert line.out() == [2]


def test_a_result_that_is_no_json_names_the_stage(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "a..b", double), ("b", "a..b", "out", lambda _: [float("nan")]))
    line.feed(1)
    with pytest.raises(RecordFailed) as caught:
        line.run()
    assert caught.value.failure.stage == "b"
    assert "not finite" in caught.value.failure.reason


def test_a_stage_that_says_bad_message_is_believed(plant: Callable[..., Plant]) -> None:
    def refuse(_: Any) -> list[Any]:
        raise BadMessage("too warm")

    line = plant(("a", "in", "out", refuse))
    line.feed(1)
    with pytest.raises(RecordFailed) as caught:
        line.run()
    assert caught.value.failure.reason == "too warm"


def test_finish_acknowledges_what_was_taken_and_leaves_the_rest(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", double))

    def last(record: Any) -> list[Any]:
        line.pump.finish(5.0)
        return [record]

    line.frameworks["a"]._function = last
    line.feed(*range(10))
    line.pump.run()
    assert line.out() == [0, 1, 2, 3]
    line.sources["in"].close()
    assert len(line.queues["in"].waiting) == 6
    assert row(line, "a") == {"in": 4, "done": 4, "out": 4}


def test_a_deadline_ends_even_what_nobody_confirms(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", double))
    line.sinks["a", "out"].hold = True
    line.feed(1, 2)
    threading.Timer(0.1, line.pump.finish, (0.2,)).start()
    with pytest.raises(Unfinished, match="2 messages"):
        line.pump.run()
    assert len(line.queues["in"].unacknowledged) == 2


def test_messages_of_a_lost_connection_are_processed_again_and_counted_redelivered(
    plant: Callable[..., Plant],
) -> None:
    line = plant(("a", "in", "out", double))
    once: list[int] = []

    def lose(record: Any) -> list[Any]:
        if not once:
            once.append(1)
            line.sources["in"].lose_connection()
        return [record]

    line.frameworks["a"]._function = lose
    line.feed(1, 2)
    line.run()
    assert line.out() == [1, 2, 1, 2]
    assert row(line, "a") == {"in": 4, "done": 4, "out": 4, "redelivered": 2}
    assert line.queues["in"].unacknowledged == {}


def test_a_source_that_gave_up_ends_the_pump(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", double))
    line.sources["in"].failure = Superseded("somebody else")
    with pytest.raises(Superseded):
        line.pump.run()


def test_max_wait_gathers_a_batch(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "out", double), max_wait_s=5.0)
    line.feed(1)

    def more() -> None:
        line.feed(2, 3, 4)
        line.poller.wake()

    threading.Timer(0.05, more).start()
    threading.Timer(0.2, line.pump.finish, (5.0,)).start()
    line.pump.run()
    assert line.frameworks["a"].batches == [[1, 2, 3, 4]]


def test_a_tap_sees_links_and_queues_and_takes_no_more_than_it_wanted(plant: Callable[..., Plant]) -> None:
    line = plant(("a", "in", "a..b", double), ("b", "a..b", "out", double))
    taps = {queue: Tap(queue, 2) for queue in ("in", "a..b", "out")}
    for tap in taps.values():
        line.taps.add(tap)
    line.feed(1, 2, 3)
    line.run()
    assert {queue: [each["record"] for each in tap.take()] for queue, tap in taps.items()} == {
        "in": [1, 2],
        "a..b": [2, 4],
        "out": [4, 8],
    }
    assert all(tap.done for tap in taps.values())


def test_a_confirmation_that_comes_with_a_fruitless_take_is_not_waited_for(
    plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The take served the sink's socket: no event is left that would end the wait after it."""
    line = plant(("a", "in", "out", double))
    sink, source = line.sinks["a", "out"], line.sources["in"]
    sink.hold = True
    take, waits = source.take, list[int]()

    def fruitless(limit: int, timeout_s: float) -> list[Any]:
        if not (sink.hold and sink.ids):
            return take(limit, timeout_s)
        sink.hold = False
        sink.confirm()
        return []

    monkeypatch.setattr(source, "take", fruitless)
    monkeypatch.setattr(line.poller, "wait", lambda _timeout_s: waits.append(len(line.queues["in"].unacknowledged)))
    line.feed(1)
    line.run()
    assert line.out() == [2]
    assert 1 not in waits, "it waited with a confirmed message unacknowledged"
