"""Unpacks a code bundle: regular files and folders, nothing else, within limits.

The archive comes from elsewhere, and extraction by the standard library has been talked into writing
outside its folder more than once. So `tarfile` only tells the members apart; every file is opened here,
by names checked here, exclusively and without following links, in a new folder that gets its final name
when everything is in it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import IO, cast

from fogline.agent.host.workspace import sync_folder
from fogline.wire.terms import ErrorKind, FoglineError

MAX_MEMBERS = 10_000
MAX_TOTAL_BYTES = 1024**3
MAX_FILE_BYTES = 256 * 1024**2
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
_PIECE_BYTES = 1024**2
_HEADERS_BYTES = 64 * 1024**2
"""Room for the headers around the files, when a compressed archive is inflated."""
_GZIP = b"\x1f\x8b"


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` (tar, also gzipped) as the folder `target`, which must not exist.

    Raises FoglineError (CORRUPT) naming the member that is refused; nothing is left behind then.
    """
    draft = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    try:
        with archive.open("rb") as packed, tempfile.TemporaryFile(dir=target.parent) as spare:
            plain = _inflate(packed, spare) if packed.read(len(_GZIP)) == _GZIP else packed
            plain.seek(0)
            _unpack_members(plain, draft)
        draft.chmod(0o755)
        _settle(draft)
        draft.rename(target)
        sync_folder(target.parent)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            refusal = FoglineError(ErrorKind.FAILED, f"the code bundle cannot be unpacked: {error}")
        else:
            refusal = FoglineError(ErrorKind.CORRUPT, f"the code bundle is not a tar archive: {error}")
        raise refusal from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class _Headers:
    """What tarfile reads from: no single header may ask for much memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE_BYTES:
            raise _refusal("a header", "is longer than 1 MiB")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _inflate(packed: IO[bytes], spare: IO[bytes]) -> IO[bytes]:
    import gzip

    packed.seek(0)
    left = MAX_TOTAL_BYTES + _HEADERS_BYTES
    with gzip.GzipFile(fileobj=packed) as inflating:
        while piece := inflating.read(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise _refusal("the archive", "holds more than 1 GiB")
            spare.write(piece)
    return spare


def _unpack_members(plain: IO[bytes], folder: Path) -> None:
    members = total_bytes = 0
    with tarfile.open(fileobj=cast("IO[bytes]", _Headers(plain)), mode="r:") as archive:
        for member in archive:
            members += 1
            total_bytes += max(0, member.size)
            if members > MAX_MEMBERS:
                raise _refusal("the archive", f"has more than {MAX_MEMBERS} members")
            if total_bytes > MAX_TOTAL_BYTES:
                raise _refusal("the archive", "holds more than 1 GiB")
            path = folder / _checked_name(member)
            try:
                _place_member(plain, member, path)
            except (FileExistsError, NotADirectoryError):
                raise _refusal(ascii(member.name[:80]), "is in the bundle twice") from None
            plain.seek(member.offset_data)


def _checked_name(member: tarfile.TarInfo) -> str:
    name = member.name
    parts = [part for part in name.split("/") if part not in {"", "."}]
    shown = ascii(name[:80])
    if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE} or member.sparse is not None:
        raise _refusal(shown, "is neither a regular file nor a folder")
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _refusal(shown, "points outside the bundle")
    if not parts and member.type != tarfile.DIRTYPE:
        raise _refusal(shown, "has no name")
    too_long = any(len(part.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES for part in parts)
    if too_long or len(name.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise _refusal(shown, f"has a name longer than {MAX_NAME_BYTES} bytes")
    if not 0 <= member.size <= MAX_FILE_BYTES:
        raise _refusal(shown, "is larger than 256 MiB")
    return "/".join(parts)


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
                raise _refusal(ascii(member.name[:80]), "ends early")
            file.write(piece)
            left -= len(piece)


def _settle(folder: Path) -> None:
    """Put every file and name on the disk: the final name must never show half a bundle."""
    for path, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(path))


def _refusal(what: str, why: str) -> FoglineError:
    return FoglineError(ErrorKind.CORRUPT, f"the code bundle is refused: {what} {why}")
