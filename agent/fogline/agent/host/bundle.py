"""Unpacks a bundle of code, or of a model that is a folder: regular files and folders, nothing else, within limits.

The archive comes from elsewhere, and extraction by the standard library has been talked into writing
outside its folder more than once. So `tarfile` only tells the members apart; every file is opened here,
by names checked here, exclusively and without following links, in a new folder that gets its final name
when everything is in it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from fogline.agent.host.workspace import sync_folder
from fogline.wire.terms import ErrorKind, FoglineError

MIB = 1024**2


@dataclass(frozen=True)
class Limits:
    """How much a bundle may hold."""

    what: str
    """What the bundle is of, for people."""
    file_bytes: int
    total_bytes: int
    members: int = 10_000


CODE = Limits("code", file_bytes=256 * MIB, total_bytes=1024 * MIB)
MODEL = Limits("model", file_bytes=1024 * MIB, total_bytes=2048 * MIB)
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_DEPTH = 16
MAX_RATIO = 100
"""Bytes that one byte of a compressed archive may become."""
_ANY_RATIO_BYTES = 16 * MIB
"""Up to here it may be more: many small files are mostly the zeros between them."""
_PIECE_BYTES = MIB
_HEADERS_BYTES = 64 * MIB
"""Room for the headers around the files, when a compressed archive is inflated."""
_GZIP, _ZIPS = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_DRIVE = re.compile(r"[A-Za-z]:")
_LONG_NUMBER = re.compile(rb"\d{257}")
_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE}


class _Refused(Exception):
    """What is refused, and why."""


def unpack(archive: Path, target: Path, limits: Limits = CODE) -> None:
    """Unpack `archive` (tar, also gzipped) as the folder `target`, which must not exist.

    Raises FoglineError (CORRUPT) naming the member that is refused; nothing is left behind then.
    """
    draft = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    try:
        with archive.open("rb") as packed, tempfile.TemporaryFile(dir=target.parent) as spare:
            _unpack_members(_plain(packed, spare, limits), draft, limits)
        draft.chmod(0o755)
        _settle(draft)
        draft.rename(target)
        sync_folder(target.parent)
    except _Refused as error:
        raise FoglineError(ErrorKind.CORRUPT, f"the {limits.what} bundle is refused: {error}") from error
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            sentence = f"the {limits.what} bundle cannot be unpacked: {error}"
            raise FoglineError(ErrorKind.FAILED, sentence) from error
        raise FoglineError(ErrorKind.CORRUPT, f"the {limits.what} bundle is not a tar archive: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class _Headers:
    """What tarfile reads from: no single header may ask for much memory, nor for much time.

    tarfile looks for numbers in a header in a way that takes the square of their length.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE_BYTES:
            raise _Refused("a header is longer than 1 MiB")
        data = self._file.read(size)
        if _LONG_NUMBER.search(data):
            raise _Refused("a header holds a number of more than 256 digits")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _plain(packed: IO[bytes], spare: IO[bytes], limits: Limits) -> IO[bytes]:
    begins = packed.read(4)
    packed.seek(0)
    if begins in _ZIPS:
        raise _Refused("it is a zip archive; a bundle is a tar archive")
    if not begins.startswith(_GZIP):
        return packed
    _inflate(packed, spare, limits)
    spare.seek(0)
    return spare


def _inflate(packed: IO[bytes], spare: IO[bytes], limits: Limits) -> None:
    import gzip

    most = max(_ANY_RATIO_BYTES, MAX_RATIO * os.fstat(packed.fileno()).st_size)
    inflated = 0
    with gzip.GzipFile(fileobj=packed) as inflating:
        while piece := inflating.read(_PIECE_BYTES):
            inflated += len(piece)
            if inflated > limits.total_bytes + _HEADERS_BYTES:
                raise _too_much(limits)
            if inflated > most:
                raise _Refused(f"the archive inflates to more than {MAX_RATIO} times its size")
            spare.write(piece)


def _unpack_members(plain: IO[bytes], folder: Path, limits: Limits) -> None:
    members = total_bytes = 0
    spellings = _Spellings()
    with tarfile.open(fileobj=cast("IO[bytes]", _Headers(plain)), mode="r:") as archive:
        for member in archive:
            members += 1
            total_bytes += max(0, member.size)
            if members > limits.members:
                raise _Refused(f"the archive has more than {limits.members} members")
            if total_bytes > limits.total_bytes:
                raise _too_much(limits)
            parts = _checked_parts(member, limits)
            spellings.check(parts)
            try:
                _place_member(plain, member, folder.joinpath(*parts))
            except (FileExistsError, NotADirectoryError):
                raise _Refused(f"{_shown(member.name)} is in the bundle twice") from None
            plain.seek(member.offset_data)
        plain.seek(archive.offset)  # tarfile takes a header that is broken for the end
        if plain.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise _Refused("the archive breaks off, or goes on with what is no header")


class _Spellings:
    """Every name so far: where case, or the way an accent is written, means nothing, no two may be one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], str] = {}

    def check(self, parts: list[str]) -> None:
        folded = tuple(unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold()) for part in parts)
        for depth, part in enumerate(parts, start=1):
            known = self._known.setdefault(folded[:depth], part)
            if known != part:
                raise _Refused(f"{_shown('/'.join(parts))} differs from {_shown(known)} only in how it is spelled")


def _checked_parts(member: tarfile.TarInfo, limits: Limits) -> list[str]:
    name = member.name
    parts = [part for part in name.split("/") if part not in {"", "."}]
    is_folder = member.type == tarfile.DIRTYPE
    if member.sparse is not None or not (is_folder or member.type in _REGULAR):
        raise _Refused(f"{_shown(name)} is neither a regular file nor a folder")
    if name.startswith("/") or ".." in parts or "\\" in name or any(map(_DRIVE.match, parts)):
        raise _Refused(f"{_shown(name)} points outside the bundle")
    if any(ord(letter) < 32 for letter in name):
        raise _Refused(f"{_shown(name)} has a control character in its name")
    if not parts and not is_folder:
        raise _Refused(f"{_shown(name)} has no name")
    if len(parts) > MAX_DEPTH:
        raise _Refused(f"{_shown(name)} lies deeper than {MAX_DEPTH} folders")
    if any(_bytes(part) > MAX_NAME_BYTES for part in parts) or _bytes(name) > MAX_PATH_BYTES:
        raise _Refused(f"{_shown(name)} has a name longer than {MAX_NAME_BYTES} bytes")
    if not 0 <= member.size <= limits.file_bytes:
        raise _Refused(f"{_shown(name)} is larger than {limits.file_bytes // MIB} MiB")
    return parts


def _place_member(plain: IO[bytes], member: tarfile.TarInfo, path: Path) -> None:
    if member.type == tarfile.DIRTYPE:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    plain.seek(member.offset_data)
    left = member.size
    with os.fdopen(handle, "wb") as file:
        while left:
            piece = plain.read(min(left, _PIECE_BYTES))
            if not piece:
                raise _Refused(f"{_shown(member.name)} ends early")
            file.write(piece)
            left -= len(piece)


def _settle(folder: Path) -> None:
    """Put every file and name on the disk: the final name must never show half a bundle."""
    for path, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(path))


def _too_much(limits: Limits) -> _Refused:
    return _Refused(f"the archive holds more than {limits.total_bytes // 1024**3} GiB")


def _bytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))


def _shown(name: str) -> str:
    return ascii(name[:80])
