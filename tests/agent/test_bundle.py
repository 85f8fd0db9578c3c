"""The extractor against archives that mean harm."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fogline.agent.host import bundle
from fogline.agent.host.bundle import unpack
from fogline.wire.terms import ErrorKind, FoglineError


def a_file(name: str, data: bytes = b"x = 1", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    return member, data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def packed(*members: tuple[tarfile.TarInfo, bytes], pax: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            member.pax_headers = pax or {}
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def lying_size(size: int) -> bytes:
    """One header that claims `size` bytes, of which none follow."""
    member = tarfile.TarInfo("a.py")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024


def huge_pax_header() -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    return member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096


HOSTILE: dict[str, bytes | Callable[[], bytes]] = {
    "absolute path": packed(a_file("/tmp/evil.py")),
    "parent": packed(a_file("../evil.py")),
    "parent in the middle": packed(a_file("a/../../evil.py")),
    "parent at the end": packed(a_file("a/..")),
    "absolute by pax header": packed(a_file("fine.py"), pax={"path": "/tmp/evil.py"}),
    "parent by pax header": packed(a_file("fine.py"), pax={"path": "../evil.py"}),
    "symbolic link": packed(special("link", tarfile.SYMTYPE, "/etc/passwd")),
    "symbolic link, then a file through it": packed(special("out", tarfile.SYMTYPE, "/tmp"), a_file("out/evil.py")),
    "hard link": packed(special("link", tarfile.LNKTYPE, "../../etc/passwd")),
    "hard link to a symbolic link": packed(
        special("s", tarfile.SYMTYPE, "/tmp/x"), special("h", tarfile.LNKTYPE, "s"), a_file("h")
    ),
    "device": packed(special("null", tarfile.CHRTYPE)),
    "block device": packed(special("disk", tarfile.BLKTYPE)),
    "pipe": packed(special("fifo", tarfile.FIFOTYPE)),
    "sparse file": packed(special("sparse", tarfile.GNUTYPE_SPARSE)),
    "sparse by pax header": packed(
        a_file("s.bin"), pax={"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    ),
    "contiguous file": packed(special("c", tarfile.CONTTYPE)),
    "the same file twice": packed(a_file("a.py"), a_file("a.py", b"evil")),
    "the same file by another spelling": packed(a_file("a.py"), a_file("./a.py", b"evil")),
    "a file that is also a folder": packed(a_file("a"), a_file("a/b.py")),
    "a folder that is also a file": packed(a_file("a/b.py"), a_file("a")),
    "a name too long": packed(a_file("n" * 256 + ".py")),
    "a path too long": packed(a_file("d/" * 600 + "x.py")),
    "no name": packed(a_file(".")),
    "a size that is not there": lying_size(4096),
    "a size beyond the limit": lying_size(300 * 1024**2),
    "a header of a gigabyte": huge_pax_header(),
    "a header of two megabytes": packed(a_file("a.py"), pax={"comment": "x" * 2_000_000}),
    "no archive": b"this is no archive at all" * 100,
    "nothing": b"",
    "a broken gzip": b"\x1f\x8b" + b"\0" * 100,
    "a cut gzip": gzip.compress(packed(a_file("a.py", os.urandom(50_000))))[:20_000],
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE.keys())
def test_it_is_refused_and_leaves_nothing(tmp_path: Path, archive: bytes) -> None:
    inside = tmp_path / "deep" / "artifacts"
    inside.mkdir(parents=True)
    (inside / "blob").write_bytes(archive)
    with pytest.raises(FoglineError) as caught:
        unpack(inside / "blob", inside / "unpacked")
    assert caught.value.kind is ErrorKind.CORRUPT
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["blob"]
    assert list(inside.iterdir()) == [inside / "blob"]


def unpacked(tmp_path: Path, archive: bytes) -> Path:
    (tmp_path / "blob").write_bytes(archive)
    unpack(tmp_path / "blob", tmp_path / "unpacked")
    return tmp_path / "unpacked"


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_an_honest_bundle(tmp_path: Path, squeeze: Callable[[bytes], bytes]) -> None:
    folder = special("./empty", tarfile.DIRTYPE)
    script = a_file("./bin/run.sh", b"#!/bin/sh\n", mode=0o4755)
    data = os.urandom(3_000_000)
    path = unpacked(tmp_path, squeeze(packed(folder, script, a_file("main.py"), a_file("d/e/model.bin", data))))
    assert (path / "main.py").read_bytes() == b"x = 1"
    assert (path / "d" / "e" / "model.bin").read_bytes() == data
    assert (path / "empty").is_dir()
    assert (path / "bin" / "run.sh").stat().st_mode & 0o7777 == 0o755, "executable, but not setuid"
    assert path.stat().st_mode & 0o777 == 0o755


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_MEMBERS", 3)
    with pytest.raises(FoglineError, match="more than 3 members"):
        unpacked(tmp_path, packed(*(a_file(f"{index}.py") for index in range(4))))


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_too_much_altogether(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeeze: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(bundle, "MAX_TOTAL_BYTES", 1000)
    monkeypatch.setattr(bundle, "_HEADERS_BYTES", 0)
    with pytest.raises(FoglineError, match="more than 1 GiB"):
        unpacked(tmp_path, squeeze(packed(a_file("a.bin", bytes(600)), a_file("b.bin", bytes(600)))))
