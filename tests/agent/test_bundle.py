"""The extractor against archives that mean harm."""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.host import bundle
from fogline.agent.host.bundle import CODE, MODEL, Limits, unpack
from fogline.wire.terms import ErrorKind, FoglineError
from support.hostile_archives import FINE, HOSTILE, a_file, deep, packed, special

SENTENCE = re.compile(r"the code bundle is (refused|not a tar archive): [^\n]+")
MEMORY_BYTES = 64 * 1024**2


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 60
    assert len(set(HOSTILE.values())) == len(HOSTILE)


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE.keys())
def test_it_is_refused_and_leaves_nothing(tmp_path: Path, archive: bytes) -> None:
    inside = tmp_path / "deep" / "artifacts"
    inside.mkdir(parents=True)
    (inside / "blob").write_bytes(archive)
    tracemalloc.start()
    with pytest.raises(FoglineError) as caught:
        unpack(inside / "blob", inside / "unpacked")
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.kind is ErrorKind.CORRUPT
    assert SENTENCE.fullmatch(caught.value.sentence)
    assert most_bytes < MEMORY_BYTES
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["blob"]
    assert list(inside.iterdir()) == [inside / "blob"]
    assert not Path("/tmp/evil.py").exists()


def test_a_zip_is_called_one(tmp_path: Path) -> None:
    for name in ("an honest zip", "a zip of nothing"):
        with pytest.raises(FoglineError, match="it is a zip archive; a bundle is a tar archive"):
            unpacked(tmp_path, HOSTILE[name])


def unpacked(tmp_path: Path, archive: bytes, limits: Limits = CODE) -> Path:
    (tmp_path / "blob").write_bytes(archive)
    unpack(tmp_path / "blob", tmp_path / "unpacked", limits)
    return tmp_path / "unpacked"


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_an_honest_bundle(tmp_path: Path, squeeze: Callable[[bytes], bytes]) -> None:
    folder = special("./empty", tarfile.DIRTYPE)
    script = a_file("./bin/run.sh", b"#!/bin/sh\n", mode=0o6755)
    data = os.urandom(3_000_000)
    members = [a_file("PK.py"), a_file("main.py"), a_file("d/e/model.bin", data), a_file("d/Main.py"), a_file(deep(15))]
    path = unpacked(tmp_path, squeeze(packed(*members, folder, script)))
    assert (path / "main.py").read_bytes() == b"x = 1"
    assert (path / "d" / "e" / "model.bin").read_bytes() == data
    assert (path / deep(15)).read_bytes() == b"x = 1"
    assert (path / "empty").is_dir()
    assert (path / "bin" / "run.sh").stat().st_mode & 0o7777 == 0o755, "executable, but not setuid"
    assert path.stat().st_mode & 0o777 == 0o755


def test_what_is_packed_in_a_file_stays_packed(tmp_path: Path) -> None:
    inner = packed(special("link", tarfile.SYMTYPE, "/etc/passwd"))
    assert (unpacked(tmp_path, packed(a_file("inner.tar", inner))) / "inner.tar").read_bytes() == inner


def test_many_small_files_may_be_packed_well(tmp_path: Path) -> None:
    archive = packed(*(a_file(f"{index}.py", b"") for index in range(500)))
    squeezed = gzip.compress(archive)
    assert len(archive) > 50 * len(squeezed)
    assert len(list(unpacked(tmp_path, squeezed).iterdir())) == 500


def test_too_many_members(tmp_path: Path) -> None:
    with pytest.raises(FoglineError, match="more than 3 members"):
        unpacked(tmp_path, packed(*(a_file(f"{index}.py") for index in range(4))), replace(CODE, members=3))


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_too_much_altogether(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeeze: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(bundle, "_HEADERS_BYTES", 0)
    two = packed(a_file("a.bin", bytes(600)), a_file("b.bin", bytes(600)))
    with pytest.raises(FoglineError, match="the code bundle is refused: the archive holds more than"):
        unpacked(tmp_path, squeeze(two), replace(CODE, total_bytes=1000))


def test_a_model_may_be_larger(tmp_path: Path) -> None:
    assert (MODEL.file_bytes, CODE.file_bytes) == (1024**3, 256 * 1024**2)
    with (tmp_path / "blob").open("wb") as file:
        member = tarfile.TarInfo("model.bin")
        member.size = CODE.file_bytes + 512
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(file.tell() + member.size)
        file.seek(0, 2)
        file.write(FINE + bytes(1024))
    with pytest.raises(FoglineError, match="is larger than 256 MiB"):
        unpack(tmp_path / "blob", tmp_path / "code", CODE)
    unpack(tmp_path / "blob", tmp_path / "model", MODEL)
    assert (tmp_path / "model" / "model.bin").stat().st_size == CODE.file_bytes + 512
    assert (tmp_path / "model" / "a.py").read_bytes() == b"x = 1"
