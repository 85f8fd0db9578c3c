"""Archives that mean harm, each made by hand, by what is wrong with it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator

Member = tuple[tarfile.TarInfo, bytes]


def a_file(name: str, data: bytes = b"x = 1", mode: int = 0o644) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    return member, data


def special(name: str, kind: bytes, target: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def packed(*members: Member, pax: dict[str, str] | None = None, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member, data in members:
            member.pax_headers = pax or {}
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def header(name: str = "a.py", kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: bytes) -> bytes:
    """One header with a right checksum; `fields` (`at_<offset>`) overwrite bytes of it."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT)[-512:])
    for place, value in fields.items():
        offset = int(place.removeprefix("at_"))
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


END = bytes(1024)
FINE = header(size=5) + padded(b"x = 1")


def extended(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A header about the next member, of any content."""
    return header("x", kind, len(body)) + padded(body)


def record(key: str, value: str) -> bytes:
    """A line of an extended header."""
    text = f" {key}={value}\n".encode()
    length = len(text) + len(str(len(text)))
    length += len(str(length)) - len(str(len(text)))
    return str(length).encode() + text


def zipped(*entries: tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Entries of a name, content and mode as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            entry.external_attr = mode << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def deep(levels: int) -> str:
    return "d/" * levels + "x.py"


ACCENT = "\u00e9.py"
EVIL = b"import os"

NAMES: dict[str, bytes] = {
    "absolute path": packed(a_file("/tmp/evil.py")),
    "two slashes in front": packed(a_file("//tmp/evil.py")),
    "parent": packed(a_file("../evil.py")),
    "parent in the middle": packed(a_file("a/../../evil.py")),
    "parent at the end": packed(a_file("a/..")),
    "parent of a folder": packed(special("../evil", tarfile.DIRTYPE)),
    "parent behind a dot": packed(a_file("./../evil.py")),
    "parent in a long name": packed(a_file("a/" * 60 + "../" * 61 + "evil.py"), form=tarfile.GNU_FORMAT),
    "parent in the prefix of a name": header("evil.py", at_345=b"../..") + END,
    "absolute by extended header": packed(a_file("fine.py"), pax={"path": "/tmp/evil.py"}),
    "parent by extended header": packed(a_file("fine.py"), pax={"path": "../evil.py"}),
    "parent by global header": extended(record("path", "../evil.py"), tarfile.XGLTYPE) + FINE + END,
    "a drive": packed(a_file("C:/evil.py")),
    "a drive without a slash": packed(a_file("c:evil.py")),
    "backslashes": packed(a_file("..\\evil.py")),
    "a share": packed(a_file("\\\\host\\evil.py")),
    "a null in a name": extended(record("path", "a\0../evil.py")) + FINE + END,
    "a line in a name": packed(a_file("a\nb.py")),
    "an escape in a name": packed(a_file("\x1b[2Ja.py")),
    "a name of 300": packed(a_file("n" * 300)),
    "a folder of 300": packed(a_file("n" * 300 + "/a.py")),
    "a name of 130 accents": packed(a_file("\u00e9" * 130)),
    "a path too long": packed(a_file("d" * 120 + ("/" + "d" * 120) * 9 + "/x.py")),
    "deeper than it may be": packed(a_file(deep(16))),
    "folders deeper than they may be": packed(special("d/" * 17, tarfile.DIRTYPE)),
    "very deep": packed(a_file(deep(400))),
    "no name": packed(a_file(".")),
    "the same file twice": packed(a_file("a.py"), a_file("a.py", EVIL)),
    "the same file by another spelling": packed(a_file("a.py"), a_file("./a.py", EVIL)),
    "the same file with two slashes": packed(a_file("d/a.py"), a_file("d//a.py", EVIL)),
    "the same but for its case": packed(a_file("main.py"), a_file("MAIN.py", EVIL)),
    "a folder that is the same but for its case": packed(a_file("lib/a.py"), a_file("Lib/b.py", EVIL)),
    "the same accent written otherwise": packed(a_file(ACCENT), a_file(unicodedata.normalize("NFD", ACCENT), EVIL)),
    "the same by folding": packed(a_file("stra\u00dfe.py"), a_file("STRASSE.py", EVIL)),
    "a file that is also a folder": packed(a_file("a"), a_file("a/b.py")),
    "a folder that is also a file": packed(a_file("a/b.py"), a_file("a")),
}

KINDS: dict[str, bytes] = {
    "symbolic link": packed(special("link", tarfile.SYMTYPE, "/etc/passwd")),
    "symbolic link inside": packed(a_file("a.py"), special("link", tarfile.SYMTYPE, "a.py")),
    "symbolic link, then a file through it": packed(special("out", tarfile.SYMTYPE, "/tmp"), a_file("out/evil.py")),
    "symbolic link to the parent": packed(special("up", tarfile.SYMTYPE, ".."), a_file("up/evil.py")),
    "hard link": packed(special("link", tarfile.LNKTYPE, "../../etc/passwd")),
    "hard link to a symbolic link": packed(
        special("s", tarfile.SYMTYPE, "/tmp/x"), special("h", tarfile.LNKTYPE, "s"), a_file("h")
    ),
    "hard link inside": packed(a_file("a.py"), special("link", tarfile.LNKTYPE, "a.py")),
    "link by extended header": packed(special("l", tarfile.SYMTYPE, "a"), pax={"linkpath": "/etc/passwd"}),
    "device": packed(special("null", tarfile.CHRTYPE)),
    "block device": packed(special("disk", tarfile.BLKTYPE)),
    "pipe": packed(special("fifo", tarfile.FIFOTYPE)),
    "contiguous file": packed(special("c", tarfile.CONTTYPE)),
    "a kind nobody knows": header("odd", b"Z") + END,
    "a volume label": header("V", b"V") + END,
    "sparse file": packed(special("sparse", tarfile.GNUTYPE_SPARSE)),
    "sparse by extended header": packed(
        a_file("s.bin"), pax={"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    ),
    "a sparse file of a terabyte": packed(
        a_file("s.bin"), pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40), "GNU.sparse.name": "s"}
    ),
}

HEADERS: dict[str, bytes] = {
    "a size that is not there": header(size=4096) + END,
    "a size beyond the limit": header(size=300 * 1024**2) + END,
    "a size below nothing": header(at_124=b"\xff" * 12) + END,
    "a size of 2^88": header(at_124=b"\x80" + b"\xff" * 11) + END,
    "a size by extended header": packed(a_file("a.py"), pax={"size": str(300 * 1024**2)}),
    "a size below nothing by extended header": extended(record("size", "-512")) + FINE + END,
    "a size that is no number": extended(record("size", "1e9")) + FINE + END,
    "a size of 5000 digits": extended(record("size", "9" * 5000)) + FINE + END,
    "a header of a gigabyte": header("x", tarfile.XHDTYPE, 1 << 30) + bytes(4096),
    "a header of two megabytes": packed(a_file("a.py"), pax={"comment": "x" * 2_000_000}),
    "a long name of a gigabyte": header("x", tarfile.GNUTYPE_LONGNAME, 1 << 30) + bytes(4096),
    "a header that takes the square of its length": extended(b"1" * 900_000) + FINE + END,
    "headers about headers": extended(record("a", "b")) * 3000 + FINE + END,
    "a global size": extended(record("size", str(1 << 40)), tarfile.XGLTYPE) + FINE + END,
    "a wrong checksum": FINE[:148] + b"000001\0 " + FINE[156:] + END,
    "a length of a record that lies": extended(b"99999 path=a\n") + header(size=9999),
    "a wrong checksum further on": FINE + FINE[:148] + b"000001\0 " + FINE[156:] + END,
    "cut in a header": FINE[:300],
    "cut between two files": FINE + header("b.py"),
    "cut in a file": packed(a_file("a.bin", os.urandom(50_000)))[:20_000],
    "no archive": b"this is no archive at all" * 100,
    "nothing": b"",
}


def bombs() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(40 * 1024**2)
    bomb = packed(a_file("zeros.bin", zeros))
    yield "a gzip that grows a thousandfold", gzip.compress(bomb)
    yield "a gzip in a gzip", gzip.compress(gzip.compress(bomb))
    yield "zeros behind the end", gzip.compress(FINE + END + zeros)
    yield "many gzips in one", gzip.compress(bytes(1024**2)) * 40
    yield "a broken gzip", b"\x1f\x8b" + bytes(100)
    yield "a cut gzip", gzip.compress(packed(a_file("a.py", os.urandom(50_000))))[:20_000]
    yield "a gzip with a wrong sum", gzip.compress(packed(a_file("a.py")))[:-8] + bytes(8)
    yield "a gzip with rubbish behind", gzip.compress(packed(a_file("a.py"))) + b"rubbish"
    yield "a bzip2", bz2.compress(packed(a_file("a.py")))
    yield "an xz", lzma.compress(packed(a_file("a.py")))


def zips() -> Iterator[tuple[str, bytes]]:
    plain, link = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
    yield "an honest zip", zipped(("a.py", b"x = 1", plain))
    yield "a zip with a parent", zipped(("../evil.py", EVIL, plain))
    yield "a zip with an absolute path", zipped(("/tmp/evil.py", EVIL, plain))
    yield "a zip with a drive", zipped(("C:\\evil.py", EVIL, plain))
    yield "a zip with a symbolic link", zipped(("link", b"/etc/passwd", link), ("link/a.py", EVIL, plain))
    yield "a zip with a device", zipped(("null", b"", stat.S_IFCHR | 0o666))
    yield "a zip with a pipe", zipped(("fifo", b"", stat.S_IFIFO | 0o666))
    yield "a zip with setuid", zipped(("run", EVIL, plain | stat.S_ISUID))
    yield "a zip with the same but for its case", zipped(("a.py", b"", plain), ("A.py", EVIL, plain))
    yield "a zip with a name of 300", zipped(("n" * 300, EVIL, plain))
    yield "a zip that is deep", zipped((deep(400), EVIL, plain))
    yield "a zip that is a bomb", zipped(("zeros", bytes(40 * 1024**2), plain))
    yield "a zip in a zip", zipped(("inner.zip", zipped(("zeros", bytes(1024**2), plain)), plain))
    yield "a zip of nothing", zipped()
    yield "a zip of many", zipped(*((f"{index}", b"", plain) for index in range(2000)))
    whole = zipped(("a.py", os.urandom(5000), plain), method=zipfile.ZIP_STORED)
    yield "a cut zip", whole[:3000]
    yield "a zip whose size lies", whole[:22] + struct.pack("<I", 1 << 31) + whole[26:]
    yield "a zip with a tar in it", zipped(("a.tar", packed(a_file("a.py")), plain), method=zipfile.ZIP_STORED)
    yield "a gzipped zip", gzip.compress(whole)


HOSTILE = NAMES | KINDS | HEADERS | dict(bombs()) | dict(zips())
