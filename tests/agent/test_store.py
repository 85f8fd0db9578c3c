"""The agent's durable state."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.store.sqlite import CopyRecord, Membership, Phase, Store
from fogline.wire.terms import ErrorKind, FoglineError, Wanted
from support.agent_builders import a_spec, a_wish

WISH = a_wish(a_spec())


def reopened(path: Path) -> contextlib.closing[Store]:
    return contextlib.closing(Store(path))


def test_a_new_store_knows_nothing(tmp_path: Path) -> None:
    with reopened(tmp_path / "state.db") as store:
        assert store.membership() == Membership()
        assert store.copies() == []


def test_everything_survives_a_new_process(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with reopened(path) as store:
        store.save_desired(Membership("c1", 3, 14), [WISH])
        store.save_progress(WISH.key, Phase.FAILED, "no module named 'scipy'", restarts=4)
    with reopened(path) as store:
        assert store.membership() == Membership("c1", 3, 14)
        (record,) = store.copies()
        assert record.wish == WISH
        assert (record.phase, record.reason, record.restarts) == (Phase.FAILED, "no module named 'scipy'", 4)


def test_a_new_wish_keeps_how_far_the_copy_got(tmp_path: Path) -> None:
    with reopened(tmp_path / "state.db") as store:
        store.save_desired(Membership("c1", 1, 1), [WISH])
        store.save_progress(WISH.key, Phase.PREPARED)
        stop = replace(WISH, wanted=Wanted.STOPPED, drain_s=30.0, listed=False)
        store.save_desired(Membership("c1", 1, 2), [stop])
        (record,) = store.copies()
        assert record.wish == stop
        assert record.phase is Phase.PREPARED


def test_dropped_copies_are_gone(tmp_path: Path) -> None:
    with reopened(tmp_path / "state.db") as store:
        store.save_desired(Membership("c1", 1, 1), [WISH])
        store.drop(WISH.key)
        assert store.copies() == []


@pytest.mark.parametrize("damage", ["overwritten", "a broken chain", "not a database", "cut short"])
def test_a_corrupt_file_is_set_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.db"
    with reopened(path) as store:
        store.save_desired(Membership("c1", 3, 14), [replace(WISH, spec=b"x" * 20_000)])
    data = path.read_bytes()
    damaged = {
        "overwritten": data[:1000] + b"\xff" * 7000 + data[8000:],
        "a broken chain": data[:-4096] + b"\xff" * 4 + data[-4092:],  # a value's last page points nowhere
        "not a database": b"hello" * 2000,
        "cut short": data[: len(data) // 2],
    }[damage]
    path.write_bytes(damaged)
    with reopened(path) as store:
        assert store.membership() == Membership()
        store.save_membership(Membership("c2"))
    (aside,) = tmp_path.glob("state.db.corrupt-*")
    assert aside.read_bytes() == damaged, "set aside, not lost"
    assert "is corrupt" in caplog.text


def test_a_disk_that_does_not_take_it_is_a_sentence(tmp_path: Path) -> None:
    with reopened(tmp_path / "state.db") as store:
        store._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(FoglineError, match="could not be stored, so it is not acted on"):
            store.save_desired(Membership("c1", 1, 1), [replace(WISH, spec=b"x" * 100_000)])
        assert store.membership() == Membership()


def test_a_folder_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(FoglineError) as caught:
        Store(tmp_path / "state.db")
    assert caught.value.kind is ErrorKind.FAILED


def whole(path: Path) -> tuple[Membership, list[CopyRecord]]:
    with reopened(path) as store:
        return store.membership(), store.copies()


@pytest.mark.parametrize("harm", ["truncated", "bits flipped", "random bytes", "zeros"])
def test_whatever_happens_to_the_file_it_is_found_or_means_nothing(tmp_path: Path, harm: str) -> None:
    """Damaged in forty places by seed: either all is as it was, or all of it is set aside."""
    path = tmp_path / "state.db"
    wishes = [a_wish(a_spec(f"s{number}", environment={"K": "v" * 300 * number})) for number in range(12)]
    with reopened(path) as store:
        store.save_desired(Membership("c1", 3, 14), wishes)
        for wish in wishes[:6]:
            store.save_progress(wish.key, Phase.FAILED, "no module named 'scipy'", restarts=4, incarnation=2)
    sound, before = path.read_bytes(), whole(path)
    chance = random.Random(harm)
    noticed = 0
    for turn in range(40):
        at = chance.randrange(len(sound))
        data = bytearray(sound)
        if harm == "truncated":
            del data[at:]
        elif harm == "bits flipped":
            data[at] ^= 1 << chance.randrange(8)
        else:
            data[at : at + 200] = bytes(200) if harm == "zeros" else chance.randbytes(200)
        folder = tmp_path / str(turn)
        folder.mkdir()
        damaged = folder / "state.db"
        damaged.write_bytes(data)
        found = whole(damaged)
        assert found in (before, (Membership(), [])), f"turn {turn}, byte {at}"
        aside = list(folder.glob("state.db.corrupt-*"))
        assert bool(aside) == (found != before) or not data, "set aside, never lost"
        noticed += found != before
        assert whole(damaged) == found, "no second surprise"
    assert noticed > 0


def test_a_letter_that_is_another_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with reopened(path) as store:
        store.save_desired(Membership("c1", 3, 14), [WISH])
    path.write_bytes(path.read_bytes().replace(b'"wanted": "running"', b'"wanted": "stopped"'))
    assert whole(path) == (Membership(), [])


def test_a_file_of_another_format_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with reopened(path) as store:
        store.save_desired(Membership("c1", 3, 14), [WISH])
        store._db.execute("PRAGMA user_version = 99")
    assert whole(path) == (Membership(), [])
    assert list(tmp_path.glob("state.db.corrupt-*"))
