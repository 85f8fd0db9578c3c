"""The agent's durable state."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.store.sqlite import Membership, Phase, Store
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
        store.save_phase(WISH.key, Phase.FAILED, "no module named 'scipy'", restarts=4)
    with reopened(path) as store:
        assert store.membership() == Membership("c1", 3, 14)
        (record,) = store.copies()
        assert record.wish == WISH
        assert (record.phase, record.reason, record.restarts) == (Phase.FAILED, "no module named 'scipy'", 4)


def test_a_new_wish_keeps_how_far_the_copy_got(tmp_path: Path) -> None:
    with reopened(tmp_path / "state.db") as store:
        store.save_desired(Membership("c1", 1, 1), [WISH])
        store.save_phase(WISH.key, Phase.PREPARED)
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
