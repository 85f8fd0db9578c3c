from __future__ import annotations

import threading

from fogline.runtimes.counters import RATE_S, Counters, Rates, Tally
from fogline.runtimes.spec import COUNTERS


def balanced(row: dict[str, int]) -> bool:
    settled = row["done"] + row["filtered"] + row["dead_lettered"] + row["dropped"]
    return row["in"] == settled + row["in_flight"]


def test_a_batch_enters_and_settles() -> None:
    counters = Counters(["a", "b"])
    counters.enter("a", 5)
    assert counters.snapshot()["a"] == dict.fromkeys(COUNTERS, 0) | {"in": 5, "in_flight": 5}
    counters.settle({"a": Tally(done=3, filtered=2, out=6)})
    counters.add("a", "unrouted", 1)
    assert counters.snapshot() == {
        "a": dict.fromkeys(COUNTERS, 0) | {"in": 5, "done": 3, "filtered": 2, "out": 6, "unrouted": 1},
        "b": dict.fromkeys(COUNTERS, 0),
    }


def test_a_restart_goes_on_and_forgets_what_was_in_flight() -> None:
    room = memoryview(bytearray(8 * len(COUNTERS)))
    first = Counters(["a"], room)
    first.enter("a", 12)
    first.settle({"a": Tally(done=4, dead_lettered=1, dropped=1, out=4)})
    again = Counters(["a"], room)  # the first one is not closed: it crashed
    row = again.snapshot()["a"]
    assert (row["in"], row["done"], row["in_flight"], row["out"]) == (6, 4, 0, 4)
    assert (row["dead_lettered"], row["dropped"]) == (1, 1)
    assert balanced(row)


def test_a_reader_in_another_thread_always_sees_the_equation_hold() -> None:
    counters = Counters(["a"])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            counters.enter("a", 3)
            counters.settle({"a": Tally(done=2, filtered=1, out=2)})

    writer = threading.Thread(target=write)
    writer.start()
    rows = [counters.snapshot()["a"] for _ in range(2000)]
    stop.set()
    writer.join()
    assert all(map(balanced, rows))
    assert rows[-1]["in"] > 0


def test_percentiles_of_recent_latencies() -> None:
    counters = Counters(["a"])
    assert counters.percentiles() == (0.0, 0.0)
    counters.latencies(number / 100 for number in range(101))
    assert counters.percentiles() == (0.5, 0.99)


def test_a_rate_is_that_of_the_last_seconds_however_often_one_looks() -> None:
    rates = Rates(100.0, (500, 0))
    assert rates.at(100.0, (500, 0)) == [0.0, 0.0]
    assert rates.at(102.0, (900, 1)) == [200.0, 0.5]
    for tick in range(1, 201):  # ten a second for twenty seconds: the second stage stands still
        found = rates.at(102 + tick / 10, (900 + 10 * tick, 1))
    assert found == [100.0, 0.0]
    assert rates.at(122.0 + 3 * RATE_S, (2900, 1)) == [0.0, 0.0]


def test_what_a_former_process_counted_is_no_rate() -> None:
    room = memoryview(bytearray(8 * len(COUNTERS)))
    first = Counters(["a"], room)
    first.enter("a", 1000)
    first.settle({"a": Tally(done=1000)})
    first.close()
    (row,) = Counters(["a"], room).rows()
    assert (row["counters"]["in"], row["rate"]) == (1000, 0.0)
