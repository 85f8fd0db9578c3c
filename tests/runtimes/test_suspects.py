"""Who is suspect after a death, who is not, and for how long. A death is a second `Suspects` over the same room."""

from __future__ import annotations

import struct
import time

import pytest

from fogline.runtimes.suspects import FORGOTTEN_S, Suspects, room_bytes

MAX = 4


@pytest.fixture
def room() -> memoryview:
    return memoryview(bytearray(room_bytes(MAX)))


def died(room: memoryview, *inside: str, stage: int = 0, letter: int = 0) -> Suspects:
    """What a process finds after one that died with these inside user code."""
    before = Suspects(MAX, room)
    before.enter(inside, letter)
    before.at(stage)
    return Suspects(MAX, room)


def attempts(suspects: Suspects, ident: str) -> int | None:
    found = suspects.find(ident)
    return found.attempts if found else None


def test_nobody_is_suspect_when_user_code_had_returned(room: memoryview) -> None:
    before = Suspects(MAX, room)
    before.enter(["a", "b"])
    before.leave()
    assert not Suspects(MAX, room).anybody


def test_a_batch_makes_suspects_without_an_attempt(room: memoryview) -> None:
    after = died(room, "a", "b", stage=2)
    assert (attempts(after, "a"), attempts(after, "b"), attempts(after, "c")) == (0, 0, None)
    assert after.find("a") is not None
    assert after.find("a").stage == 2  # type: ignore[union-attr]


def test_each_death_alone_counts_and_one_in_a_batch_does_not(room: memoryview) -> None:
    died(room, "a", "b")
    for count in (1, 2, 3):
        assert attempts(died(room, "a"), "a") == count
    assert attempts(died(room, "a", "c"), "a") == 3


def test_who_passes_is_forgotten_and_begins_anew(room: memoryview) -> None:
    died(room, "a", "b")
    after = died(room, "a")
    after.forget("a")
    after.forget("unknown")
    assert (attempts(after, "a"), attempts(after, "b")) == (None, 0)
    assert attempts(Suspects(MAX, room), "a") is None
    assert attempts(died(room, "a"), "a") == 1


def test_the_next_of_a_condemned_id_gets_one_attempt(room: memoryview) -> None:
    for _ in range(3):
        after = died(room, "a")
    after.condemn("a", retries=2)
    assert attempts(after, "a") == 2
    assert attempts(died(room, "a"), "a") == 3


def test_a_start_without_a_death_changes_nothing(room: memoryview) -> None:
    died(room, "a")
    for _ in range(3):
        assert attempts(Suspects(MAX, room), "a") == 1


@pytest.mark.parametrize("idents", [("a\nb", "c"), ("", ""), ("x" * 500, "y" * 500), ("\ud800", "é")])
def test_any_id_can_be_suspect(room: memoryview, idents: tuple[str, ...]) -> None:
    after = died(room, *idents)
    assert [attempts(after, each) for each in idents] == [0] * len(idents)
    assert attempts(died(room, idents[0]), idents[0]) == 1


def test_the_longest_suspected_go_when_there_are_too_many_but_not_who_died_alone(room: memoryview) -> None:
    died(room, "poison")
    for number in range(10):
        after = died(room, *(f"{number}-{place}" for place in range(MAX)))
    assert attempts(after, "poison") == 1
    assert attempts(after, "9-0") == 0
    assert len(after._known) == 2 * MAX


def test_who_never_comes_again_is_forgotten_after_a_day(room: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    died(room, "a")
    later = time.time() + FORGOTTEN_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert not Suspects(MAX, room).anybody
    monkeypatch.undo()
    assert not Suspects(MAX, room).anybody


def test_a_death_in_a_replayed_letter_is_told_once_and_suspects_nobody(room: memoryview) -> None:
    after = died(room, "a", stage=1, letter=17)
    assert (after.died_in_letter, after.anybody) == ((17, 1), False)
    assert Suspects(MAX, room).died_in_letter is None


def test_a_room_full_of_anything_is_survived() -> None:
    room = memoryview(bytearray(b"\xff" * room_bytes(MAX)))
    struct.pack_into("<qqqq", room, 0, MAX, 0, 10, 0)
    suspects = Suspects(MAX, room)
    suspects.enter(["a"])
    assert attempts(Suspects(MAX, room), "a") == 1
