"""Files as records: csv, JSON lines and lines of text, one at a time, each with its place in the file.

What is no record becomes a payload that no decoder takes, so that it goes the way of every bad message. A csv row
that is none (another number of cells than the header, a quote that is never closed) is its first line alone; reading
goes on with the next.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import orjson

from fogline.runtimes.codecs import PAYLOAD_LIMIT_BYTES

LINE_BYTES = PAYLOAD_LIMIT_BYTES + 2
"""No more of a line is kept in memory: a payload at its limit, and a line end."""
_SKIP_BYTES = 64 * 1024
_MARK = b"\xef\xbb\xbf"
"""What some programs put in front of UTF-8."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<broken>\.[0-9]+)?(?P<power>[eE][+-]?[0-9]+)?")
_DIGITS = 20
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
"""Of the integers that travel."""


class BadHeader(Exception):
    """Nothing in this csv file can be read."""


class Row(NamedTuple):
    """One record."""

    payload: bytes
    line: int
    """Number of its first line, from 1."""
    end: int
    """Offset in bytes behind its last line."""
    lines: int
    """How many lines end there or before."""


class Lines:
    """The lines of a file opened for bytes, and where the next one is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.offset = 0
        self.number = 0
        """Lines before `offset`."""

    def read(self) -> bytes:
        """The next line with its end, cut after `LINE_BYTES`; empty at the end of the file."""
        line = self._file.readline(LINE_BYTES)
        if not line:
            return line
        first = self.offset == 0
        self.offset += len(line)
        self.number += 1
        rest = line if len(line) == LINE_BYTES else b"\n"
        while rest and not rest.endswith(b"\n"):
            rest = self._file.readline(_SKIP_BYTES)
            self.offset += len(rest)
        return line.removeprefix(_MARK) if first else line

    def go(self, offset: int, number: int) -> None:
        """Read on from there."""
        self._file.seek(offset)
        self.offset, self.number = offset, number


def rows(lines: Lines, format_: str, delimiter: str = ",", offset: int = 0, number: int = 0) -> Iterator[Row]:
    """The records from `offset`, before which there are `number` lines; `lines` stands at the beginning.

    Raises BadHeader, OSError.
    """
    if format_ == "csv":
        return _csv_rows(lines, delimiter, offset, number)
    lines.go(offset, number)
    return _line_rows(lines, blank_too=format_ == "text")


def _line_rows(lines: Lines, *, blank_too: bool) -> Iterator[Row]:
    while line := lines.read():
        payload = line.removesuffix(b"\n").removesuffix(b"\r")
        if blank_too or payload.strip():
            yield Row(payload, lines.number, lines.offset, lines.number)


class _Feed:
    """Gives a csv reader its lines, and knows the first of the present row."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.begin()

    def begin(self) -> None:
        """What is read next begins a row."""
        self.first = b""
        self.end = self.lines = 0
        self._read_bytes = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._lines.read()
        if not line:
            raise StopIteration
        if not self.first:
            self.first, self.end, self.lines = line, self._lines.offset, self._lines.number
        self._read_bytes += len(line)
        if self._read_bytes >= LINE_BYTES:
            raise csv.Error("the row is too long, or a quote is not closed")
        return line.decode()


def header_of(lines: Lines, delimiter: str) -> list[str]:
    """The names in the first line that is not blank; none in an empty file. Raises BadHeader."""
    try:
        header = next((cells for cells in csv.reader(_Feed(lines), delimiter=delimiter, strict=True) if cells), [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadHeader(f"its header cannot be read: {error}") from None
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise BadHeader(f"its header names {twice!r} twice")
    return header


def _csv_rows(lines: Lines, delimiter: str, offset: int, number: int) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), LINE_BYTES))
    header = header_of(lines, delimiter)
    if not header:
        return
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    if offset:
        lines.go(offset, number)
    while True:
        feed.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError):
            lines.go(feed.end, feed.lines)
            payload = _no_row(feed.first)
        else:
            if not cells:
                continue
            payload = _object(header, cells) if len(cells) == len(header) else _no_row(feed.first)
        yield Row(payload, feed.lines, lines.offset, lines.number)


def _object(header: list[str], cells: list[str]) -> bytes:
    return orjson.dumps(dict(zip(header, map(_value, cells), strict=True)))


def _value(cell: str) -> Any:
    """Empty: null. What JSON takes for a number: that number. Anything else is a text, `007` too."""
    if not cell:
        return None
    if cell[0] not in "-0123456789" or (match := _NUMBER.fullmatch(cell)) is None:
        return cell
    if match["broken"] or match["power"]:
        number = float(cell)
        return number if math.isfinite(number) else cell
    whole = int(cell) if len(cell) <= _DIGITS else _LARGEST + 1
    return whole if _SMALLEST <= whole <= _LARGEST else cell


def _no_row(line: bytes) -> bytes:
    """The line as it is, unless it could be taken for a row."""
    line = line.rstrip(b"\r\n")
    return orjson.dumps(line.decode(errors="replace")) if line.lstrip().startswith(b"{") else line
