"""A copy's log, read from a place on and followed over its rotation.

What came before `stage.log` is in `stage.log.1`. The shim rotates by copying: the same file goes on, empty,
and a new `.1` appears beside it. Both files are held open, so that neither a rotation nor the end of the
workspace takes away what was not read yet.

A line's time is the stamp it begins with (`2026-01-31T12:00:00.123Z `); a line without one, such as what
user code prints, has that of the last stamp before it. Behind the very last stamp nothing dates a line but the
file: those may be new as long as the file was written to.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fogline.wire.channel import CHUNK_BYTES

_STAMP = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z ", re.MULTILINE)

LAST_LINES = 10
LAST_LINES_BYTES = 2048


@dataclass(frozen=True)
class From:
    """Where to begin: the latest of the three places. Zero: no limit."""

    since_s: float = 0.0
    """Seconds since the epoch."""
    tail_lines: int = 0
    tail_bytes: int = 0


class StageLog:
    """A place in one log. `begin`, then `read` until it answers nothing; later there may be more."""

    def __init__(self, log: Path) -> None:
        self._path = log
        self._former_path = log.with_name(log.name + ".1")
        self._former: int | None = None
        self._present: int | None = None
        self._left_in_former = False
        self._at = 0
        self._partial = b""

    def begin(self, at: From) -> None:
        """Go to where reading begins. Reads as much of the log as it takes to find that: up to all of it."""
        self._reopen()
        whole = _Whole([handle for handle in (self._former, self._present) if handle is not None])
        places = [0]
        if at.tail_bytes:
            places.append(whole.line_start(whole.size - at.tail_bytes))
        if at.tail_lines:
            places.append(whole.tail(at.tail_lines))
        if at.since_s:
            places.append(whole.since(at.since_s))
        former_bytes = _size_bytes(self._former) if self._former is not None else 0
        self._left_in_former = max(places) < former_bytes
        self._at = max(places) if self._left_in_former else max(places) - former_bytes

    def read(self) -> bytes:
        """The next whole lines, at most 64 KiB; a longer line comes in parts. Empty: nothing new yet."""
        while len(self._partial) < CHUNK_BYTES and (piece := self._piece(CHUNK_BYTES - len(self._partial))):
            self._partial += piece
            if b"\n" in piece:
                break
        end = self._partial.rfind(b"\n") + 1 or (CHUNK_BYTES if len(self._partial) >= CHUNK_BYTES else 0)
        lines, self._partial = self._partial[:end], self._partial[end:]
        return lines

    def rest(self) -> bytes:
        """The last line as far as it is written, when it has no end yet."""
        rest, self._partial = self._partial, b""
        return rest

    def close(self) -> None:
        """Close both files."""
        for handle in (self._former, self._present):
            if handle is not None:
                os.close(handle)
        self._former = self._present = None

    def _piece(self, count: int) -> bytes:
        if self._left_in_former and self._former is not None:
            if piece := os.pread(self._former, count, self._at):
                self._at += len(piece)
                return piece
            self._left_in_former, self._at = False, 0
        piece = os.pread(self._present, count, self._at) if self._present is not None else b""
        if _is_another(self._former_path, self._former):  # rotated: what was not read yet is in there now
            self._former = _exchanged(self._former, self._former_path)
            self._left_in_former = self._present is not None
            return self._piece(count)
        if not piece and _is_another(self._path, self._present):  # the workspace was made anew
            self._present = _exchanged(self._present, self._path)
            self._at = 0
            return self._piece(count)
        self._at += len(piece)
        return piece

    def _reopen(self) -> None:
        """Hold both files, as they were at one moment."""
        while True:
            self.close()
            self._former, self._present = _opened(self._former_path), _opened(self._path)
            if not _is_another(self._former_path, self._former):
                return


def last_lines(log: Path, lines: int = LAST_LINES, limit_bytes: int = LAST_LINES_BYTES) -> str:
    """The end of a log, for somebody who asks why a process ended; at most so many lines and bytes."""
    reader = StageLog(log)
    try:
        reader.begin(From(tail_lines=lines, tail_bytes=limit_bytes))
        found = b"".join(iter(reader.read, b"")) + reader.rest()
    finally:
        reader.close()
    return found[-limit_bytes:].decode(errors="replace").strip("\n")


class _Whole:
    """The pieces of a log as one row of bytes, as long as they were in this moment."""

    def __init__(self, handles: list[int]) -> None:
        self._pieces = [(handle, _size_bytes(handle)) for handle in handles]
        self.size = sum(size for _, size in self._pieces)

    def read(self, at: int, count: int) -> bytes:
        """At most `count` bytes from `at` on."""
        for handle, size in self._pieces:
            if at < size:
                return os.pread(handle, min(count, size - at), at)
            at -= size
        return b""

    def line_start(self, at: int) -> int:
        """Where the first line begins at `at` or behind; `at` itself when none does for long."""
        if at <= 0:
            return 0
        newline = self.read(at - 1, CHUNK_BYTES).find(b"\n")
        return at if newline < 0 else at + newline

    def tail(self, lines: int) -> int:
        """Where the last `lines` lines begin."""
        at, left = self.size, lines + (self.size > 0 and self.read(self.size - 1, 1) == b"\n")
        while at > 0:
            start = self._block_before(at)
            block = self.read(start, at - start)
            if (newlines := block.count(b"\n")) >= left:
                place = len(block)
                for _ in range(left):
                    place = block.rindex(b"\n", 0, place)
                return start + place + 1
            at, left = start, left - newlines
        return 0

    def since(self, since_s: float) -> int:
        """Where the first line of this moment or later begins; the end when there is none."""
        moment = datetime.fromtimestamp(since_s, UTC)
        wanted, at, undated = moment.isoformat(timespec="milliseconds")[:23].encode(), 0, 0
        while block := self.read(at, CHUNK_BYTES):
            end = block.rfind(b"\n") + 1 or len(block)
            for stamp in _STAMP.finditer(block, 0, end):
                if stamp[1] >= wanted:
                    return at + stamp.start()
                undated = at + (block.find(b"\n", stamp.end()) + 1 or end)
            at += end
        written_s = max((os.fstat(handle).st_mtime for handle, _ in self._pieces), default=0.0)
        return undated if written_s >= since_s else self.size

    def _block_before(self, at: int) -> int:
        """Where the piece of at most 64 KiB begins that ends at `at` and lies in one file."""
        begins = 0
        for _, size in self._pieces:
            if at <= begins + size:
                break
            begins += size
        return max(begins, at - CHUNK_BYTES)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _exchanged(former: int | None, path: Path) -> int | None:
    if former is not None:
        os.close(former)
    return _opened(path)


def _is_another(path: Path, handle: int | None) -> bool:
    """Whether a file is at `path` that is not the one held; one that is held keeps its number for itself."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return handle is None or found.st_ino != os.fstat(handle).st_ino


def _size_bytes(handle: int) -> int:
    return os.fstat(handle).st_size
