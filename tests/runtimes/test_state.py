"""The mapped state file: what stays over a death, and what begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from fogline.runtimes.state import FILE, StateFile


def write(folder: Path, stages: tuple[str, ...] = ("a",), digest: str = "d", max_size: int = 4) -> None:
    state = StateFile(folder, stages, digest, max_size)
    state.counters[:3] = b"one"
    state.suspects[:3] = b"two"
    state.close()


def read(folder: Path, stages: tuple[str, ...] = ("a",), digest: str = "d", max_size: int = 4) -> tuple[bytes, bytes]:
    state = StateFile(folder, stages, digest, max_size)
    found = bytes(state.counters[:3]), bytes(state.suspects[:3])
    state.close()
    return found


def test_both_parts_stay(tmp_path: Path) -> None:
    write(tmp_path)
    assert read(tmp_path) == (b"one", b"two")


@pytest.mark.parametrize(("digest", "max_size"), [("other", 4), ("d", 5)])
def test_another_spec_keeps_what_was_counted_and_suspects_nobody(tmp_path: Path, digest: str, max_size: int) -> None:
    write(tmp_path)
    assert read(tmp_path, digest=digest, max_size=max_size) == (b"one", bytes(3))


def test_other_stages_begin_anew(tmp_path: Path) -> None:
    write(tmp_path)
    assert read(tmp_path, stages=("b",)) == (bytes(3), bytes(3))
    assert read(tmp_path, stages=("b", "c")) == (bytes(3), bytes(3))


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 4096])
def test_a_spoilt_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read(tmp_path) == (bytes(3), bytes(3))
