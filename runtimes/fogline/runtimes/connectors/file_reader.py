"""The files of a glob as one stream of records, from wherever each was left.

A file is known again by its inode and its beginning. One that was replaced, cut off or written over is read anew from
its beginning, with a warning: what it held before is not what it holds now.
"""

from __future__ import annotations

import collections
import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from fogline.runtimes.connectors.file_rows import Lines, Row, rows
from fogline.runtimes.connectors.positions import Place
from fogline.runtimes.logs import log

_HEAD_BYTES = 4096


@dataclass(slots=True)
class Opened:
    """A file that is being read, and what it is known by."""

    path: str
    file: IO[bytes]
    lines: Lines
    rows: Iterator[Row]
    inode: int
    head: str
    head_bytes: int

    def place(self, offset: int, lines: int) -> Place:
        """There in this file."""
        return Place(self.inode, self.head, self.head_bytes, offset, lines)


class Reader:
    """File by file in the order of their names; at the end of all it looks for what came since."""

    def __init__(self, pattern: str, format_: str, delimiter: str) -> None:
        self._pattern = pattern
        self._format = format_
        self._delimiter = delimiter
        self._read: dict[str, Place] = {}
        """Of every file, how far it was read."""
        self._todo: collections.deque[str] = collections.deque()
        """Files with something new, the one that is being read first."""
        self._opened: Opened | None = None

    @property
    def path(self) -> str:
        """Of the file that is being read; the glob between two."""
        return self._opened.path if self._opened else self._pattern

    def begin(self, places: Mapping[str, Place]) -> None:
        """Read on from there."""
        self.close()
        self._todo.clear()
        self._read = dict(places)

    def next(self) -> tuple[Opened, Row] | None:
        """The next record and its file; None: there is none now. Raises OSError, BadHeader; asked again it goes on
        with the same record."""
        while True:
            opened = self._opened or self._open_next()
            if opened is None:
                return None
            row = next(opened.rows, None)
            if row is not None:
                self._read[opened.path] = opened.place(row.end, row.lines)
                return opened, row
            # What is left behind the last record is blank: it is not looked at again.
            self._read[opened.path] = opened.place(opened.lines.offset, opened.lines.number)
            self.close()
            self._todo.popleft()

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        if self._opened is not None:
            self._opened.file.close()
            self._opened = None

    def _open_next(self) -> Opened | None:
        self._todo = self._todo or collections.deque(each for each in matching(self._pattern) if self._has_new(each))
        while self._todo:
            try:
                self._opened = self._open(self._todo[0])
            except FileNotFoundError:
                self._todo.popleft()  # taken away while we looked
            else:
                return self._opened
        return None

    def _has_new(self, path: str) -> bool:
        known = self._read.get(path)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return False
        if known is None:
            return found.st_size > 0
        return found.st_ino != known.inode or found.st_size != known.offset

    def _open(self, path: str) -> Opened:
        file = open(path, "rb")  # noqa: SIM115 - it stays open until its end
        try:
            found = os.fstat(file.fileno())
            known = self._read.get(path)
            if known is not None and (why := _changed(file, known, found)):
                log.warning("%s %s: read anew from its beginning", path, why)
                self._read.pop(path)
                known = None
            head_bytes = min(found.st_size, _HEAD_BYTES)
            place = known or Place(found.st_ino, _head(file, head_bytes), head_bytes, 0, 0)
            lines = Lines(file)
            records = rows(lines, self._format, self._delimiter, place.offset, place.lines)
            return Opened(path, file, lines, records, place.inode, place.head, place.head_bytes)
        except BaseException:
            file.close()
            raise


def matching(pattern: str) -> list[str]:
    """The files of a glob, by name."""
    return sorted(each for each in glob.glob(pattern) if os.path.isfile(each))


def _head(file: IO[bytes], count: int) -> str:
    return hashlib.sha256(os.pread(file.fileno(), count, 0)).hexdigest()[:32]


def _changed(file: IO[bytes], known: Place, found: os.stat_result) -> str:
    """Why it is not the file that was read so far; empty when it is."""
    if found.st_ino != known.inode:
        return "was replaced since it was read"
    if found.st_size < known.offset:
        return f"is shorter than what was read of it ({found.st_size} bytes of {known.offset})"
    if _head(file, known.head_bytes) != known.head:
        return "was written over since it was read"
    around = os.pread(file.fileno(), 2, known.offset - 1) if known.offset else b"\n"
    if not around.startswith(b"\n") and around[1:2] not in (b"", b"\n", b"\r"):
        return "ended in the middle of a line when it was read, which has gone on since"
    return ""
