"""The judge is judged: every kind of harm, made up, is reported; a clean run is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from support.results.faults import Fault, Kind, Wish, schedule
from support.results.ledger import DeadLetter, Filtered, History, Kept, Load, Outcome, judge

BAD = b"\xff\xfe"
ROW = {"name": "a", "in": 5, "done": 4, "filtered": 1, "dead_lettered": 0, "dropped": 0, "in_flight": 0}


def expect(number: int) -> Kept | Filtered | DeadLetter:
    """0 to 3 are kept and doubled, 4 is filtered, 5 and 6 are bad, with the same bytes."""
    if number in (5, 6):
        return DeadLetter(BAD)
    return Filtered() if number == 4 else Kept({"n": number, "double": number * 2})


def at_sink(*numbers: int) -> list[bytes]:
    return [json.dumps({"n": number, "double": number * 2}).encode() for number in numbers]


CLEAN = History(
    sent=range(7), confirmed=range(7), arrived=at_sink(0, 1, 2, 3), letters=[BAD, BAD], rows=[ROW], load=Load(100, 95)
)
STRUCK = Outcome(Fault(1.0, Kind.KILL_STAGE, "a"), 1.01, 0.5, "pid 7", "5 kills in a row hit an idle process")


def test_a_clean_run_holds() -> None:
    verdict = judge(CLEAN, expect)
    assert (verdict.holds, verdict.lost, verdict.wrong, verdict.duplicates) == (True, [], [], 0)
    assert str(verdict).startswith("HOLDS: 7 records confirmed, 4 at the sink, 2 dead letters, lost 0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arrived": at_sink(0, 1, 3)}, "1 records LOST, such as [2]"),
        ({"arrived": []}, "4 records LOST, such as [0, 1, 2, 3]"),
        ({"letters": [BAD]}, "1 records LOST, such as [6]"),
        ({"letters": []}, "2 records LOST, such as [5, 6]"),
        ({"arrived": [*at_sink(0, 1, 2), b'{"n": 3, "double": 7}']}, "3 is {'n': 3, 'double': 7}, must be"),
        ({"arrived": [*at_sink(0, 1, 2, 3), b"not json"]}, "no numbered record: b'not json'"),
        ({"arrived": [*at_sink(0, 1, 2, 3), b'{"n": []}']}, "no numbered record"),
        ({"arrived": at_sink(0, 1, 2, 3, 9)}, "9 was never sent"),
        ({"arrived": at_sink(0, 1, 2, 3, 4)}, "4 is {'n': 4, 'double': 8}, must be Filtered()"),
        ({"letters": [BAD, BAD, *at_sink(1)]}, "a dead letter that must not be"),
        ({"letters": [BAD, b"\xff\xff"]}, "1 records LOST"),
        ({"arrived": at_sink(0, 1, 2, 3, 3, 3), "duplicates_limit": 1}, "2 records came again, at most 1 may"),
        ({"rows": [{**ROW, "done": 5}]}, "counters of a do not add up"),
        ({"alarms": ["stage a has 2 processes at once"]}, "stage a has 2 processes at once"),
    ],
)
def test_harm_is_reported(change: dict[str, Any], words: str) -> None:
    verdict = judge(replace(CLEAN, **change), expect)
    assert not verdict.holds
    assert str(verdict).startswith("FAILED")
    assert words in " ".join(verdict.failures)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"load": Load(100, 89)}, "the load was 89/s, under 90% of the 100/s wanted"),
        ({"faults": [STRUCK]}, "5 kills in a row hit an idle process"),
    ],
)
def test_a_run_that_could_not_have_shown_a_loss_is_void(change: dict[str, Any], words: str) -> None:
    verdict = judge(replace(CLEAN, **change), expect)
    assert (verdict.holds, verdict.failures) == (False, [])
    assert str(verdict).startswith("VOID")
    assert words in " ".join(verdict.void)


def test_repetitions_are_counted_and_allowed_up_to_the_limit() -> None:
    verdict = judge(replace(CLEAN, arrived=at_sink(0, 1, 1, 2, 3, 0), letters=[BAD] * 3, duplicates_limit=3), expect)
    assert (verdict.duplicates, verdict.holds) == (3, True)


def test_what_the_broker_never_confirmed_may_come_or_not() -> None:
    unknown = replace(CLEAN, confirmed=[0, 1, 4], letters=[])
    assert judge(replace(unknown, arrived=at_sink(0, 1)), expect).holds
    assert judge(replace(unknown, arrived=at_sink(0, 1, 2)), expect).holds


def test_drops_that_are_counted_are_not_lost_and_one_more_is() -> None:
    dropped = {**ROW, "in": 6, "dropped": 1}
    assert judge(replace(CLEAN, arrived=at_sink(0, 1, 2), rows=[dropped]), expect).holds
    assert judge(replace(CLEAN, arrived=at_sink(0, 1), rows=[dropped]), expect).lost == [2, 3]


def test_a_seed_repeats_its_faults_and_another_does_not() -> None:
    wish = Wish(
        2.0, 50.0, {"a": 7, "b": 7}, ("n1", "n2"), 10, {"broker": 2}, 1.0, (10.0, 40.0), cuts={"b": (20.0, 25.0)}
    )
    faults = schedule(1, wish)
    assert faults == schedule(1, wish)
    assert faults != schedule(2, wish)
    assert faults == sorted(faults)
    counted = [sum(fault.kind is kind for fault in faults) for kind in Kind]
    assert counted == [14, 10, 2, 1, 1]
    assert all(2.0 <= fault.at_s <= 50.0 for fault in faults)
    assert Fault(10.0, Kind.KILL_COORDINATOR, "coordinator", 30.0) in faults
    assert Fault(20.0, Kind.CUT_LINK, "b", 5.0) in faults
