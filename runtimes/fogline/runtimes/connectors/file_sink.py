"""Records into a file, a line each: confirmed once they are on the disk, one fsync for all that were sent meanwhile.

A file has one process that writes it (it holds its lock) and in that process one writer, whatever number of stages
write the queue. While the disk takes nothing more, whatever was begun is taken back, and it is tried again.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from fogline.runtimes.codecs import Encode, codec, encode_json, shown
from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.base import Receipt, Sink
from fogline.runtimes.connectors.file_rows import LINE_BYTES, BadHeader, Lines, header_of
from fogline.runtimes.connectors.positions import sync_folder
from fogline.runtimes.errors import BackOff, BadMessage, NotConnected, Superseded
from fogline.runtimes.logs import log
from fogline.runtimes.message import Item
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

HOLD_S = 0.2
_NOT_OPEN = -1
_SHOWN_BYTES = 200


class Writers:
    """The files that this process writes, each once."""

    def __init__(self) -> None:
        self._open: dict[str, Writer] = {}

    def enter(self, endpoint: EndpointSpec, poller: Poller) -> Writer:
        """The writer of this queue's file, with one user more. Raises NotConnected."""
        path = str(endpoint.options["path"])
        writer = self._open.get(path) or Writer(path, endpoint.options, poller)
        writer.open()
        writer.users += 1
        self._open[path] = writer
        return writer

    def leave(self, writer: Writer) -> None:
        """One user less; the last one closes the file."""
        writer.users -= 1
        if writer.users == 0:
            del self._open[writer.path]
            writer.close()


class Writer:
    """One file, appended to."""

    def __init__(self, path: str, options: Mapping[str, Any], poller: Poller) -> None:
        self.path = path
        self.users = 0
        self.error = ""
        self._format = str(options.get("format", "json"))
        self._delimiter = str(options.get("delimiter", ","))
        self._columns: tuple[str, ...] = ()
        self._poller = poller
        self._pending: list[tuple[list[bytes], Receipt]] = []
        self._due = False
        self._file = _NOT_OPEN
        self._inode = 0
        self._good_bytes = 0
        """So much of the file is confirmed, or was there before."""
        self._delays = Delays()

    @property
    def connected(self) -> bool:
        return self._file != _NOT_OPEN and not self.error

    def open(self) -> None:
        """Raises NotConnected, with what is in the way."""
        if self._file == _NOT_OPEN:
            try:
                self._open_file()
            except OSError as error:
                self._close_file()
                raise NotConnected(f"{self.path} cannot be written: {error.strerror or error}") from None

    def put(self, payloads: Sequence[bytes]) -> Receipt:
        """Take payloads over; what is put until the next wait goes to the disk together."""
        receipt = Receipt(len(payloads))
        self._pending.append(([self._line(each) for each in payloads], receipt))
        self._flush_in(0.0)
        return receipt

    def close(self) -> None:
        if self._pending:
            self._flush()
        self._close_file()

    # Rows -----------------------------------------------------------------------------------------

    def encode_row(self, record: Any) -> bytes:
        """A result as JSON, as everywhere; raises BadMessage when it is no row of this file. The first one that is
        makes the columns of a new file."""
        payload = encode_json(record)
        row = orjson.loads(payload)
        if not isinstance(row, dict) or not row:
            raise BadMessage("a csv file takes objects, a field for each column")
        deep = next((name for name, value in row.items() if isinstance(value, dict | list)), None)
        if deep is not None:
            raise BadMessage(f"a csv cell takes no list or object: field {deep!r}; use format json for such records")
        self._columns = self._columns or tuple(row)
        strange = next((name for name in row if name not in self._columns), None)
        if strange is not None:
            columns = ", ".join(self._columns)
            raise BadMessage(
                f"the csv file has no column {strange!r}; it has {columns} (its header, or the first record)"
            )
        return payload

    def _line(self, payload: bytes) -> bytes:
        if self._format == "text":
            return payload + b"\n"
        try:
            record = orjson.loads(payload)
        except orjson.JSONDecodeError:  # a dead letter's copy, say
            record = payload.decode(errors="backslashreplace")
            payload = orjson.dumps(record)
        if self._format == "csv":
            return self._csv_line(record)
        return (orjson.dumps(record) if b"\n" in payload else payload) + b"\n"

    def _csv_line(self, record: Any) -> bytes:
        row = record if isinstance(record, dict) else {}
        self._columns = self._columns or tuple(row)
        return _csv([_cell(row.get(name)) for name in self._columns], self._delimiter)

    # The file -------------------------------------------------------------------------------------

    def _flush_in(self, delay_s: float) -> None:
        if not self._due:
            self._due = True
            self._poller.call_later(delay_s, self._flush)

    def _flush(self) -> None:
        self._due = False
        if not self._pending:
            return
        try:
            if self._file == _NOT_OPEN or not self._has_the_name():
                self._close_file()
                self._open_file()
            if self._format == "csv" and os.fstat(self._file).st_size == 0:
                _write_all(self._file, _csv(self._columns, self._delimiter))
            for lines, _ in self._pending:
                _write_all(self._file, b"".join(lines))
            os.fsync(self._file)
        except (OSError, NotConnected) as error:
            self._failed(error)
            return
        self._good_bytes = os.fstat(self._file).st_size
        for _, receipt in self._pending:
            receipt.left = 0
        self._pending.clear()
        if self.error:
            log.info("%s is written again", self.path)
        self.error = ""
        self._delays.reset()

    def _failed(self, error: OSError | NotConnected) -> None:
        """After a failed fsync nobody knows what is on the disk: all of it is written again, behind what is."""
        words = str(error)
        if isinstance(error, OSError):
            words = f"{self.path} cannot be written: {error.strerror or error}"
        if words != self.error:
            log.error("%s; trying again", words)
        self.error = words
        self._close_file()
        self._flush_in(self._delays.next_s())

    def _has_the_name(self) -> bool:
        """Whether the path still means the file that is open: it may have been moved away, or deleted."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _open_file(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o644)
        _lock(self._file, self.path)
        found = os.fstat(self._file)
        if found.st_ino == self._inode and found.st_size > self._good_bytes:
            os.ftruncate(self._file, self._good_bytes)  # what we began and nobody confirmed
        if self._format == "csv":
            self._read_columns()
        _mend(self._file, self.path, self._format)
        sync_folder(Path(self.path).parent)
        self._inode, self._good_bytes = found.st_ino, os.fstat(self._file).st_size

    def _read_columns(self) -> None:
        with open(self.path, "rb") as file:
            try:
                found = header_of(Lines(file), self._delimiter)
            except BadHeader as error:
                raise NotConnected(f"{self.path} is no csv file: {error}") from None
        if found:
            self._columns = tuple(found)

    def _close_file(self) -> None:
        if self._file == _NOT_OPEN:
            return
        os.close(self._file)
        self._file = _NOT_OPEN


class FileSink(Sink):
    """One stage's end of the file."""

    failure: Superseded | None = None

    def __init__(self, endpoint: EndpointSpec, poller: Poller, writers: Writers) -> None:
        self.endpoint = endpoint
        self._poller = poller
        self._writers = writers
        self._format = str(endpoint.options.get("format", "json"))
        self._writer: Writer | None = None

    @property
    def connected(self) -> bool:
        return self._writer is not None and self._writer.connected

    @property
    def error(self) -> str:
        return self._writer.error if self._writer else ""

    @property
    def encoder(self) -> Encode:
        return self._encode_row if self._format == "csv" else codec(self._format)[1]

    def open(self) -> None:
        if self._writer is None:
            self._writer = self._writers.enter(self.endpoint, self._poller)

    def send(self, items: Sequence[Item]) -> Receipt:
        if self._writer is None or self._writer.error:
            raise BackOff(HOLD_S)
        with self._poller.lock:
            return self._writer.put([item.payload for item in items])

    def close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            self._writers.leave(writer)

    def _encode_row(self, record: Any) -> bytes:
        assert self._writer is not None
        return self._writer.encode_row(record)


def check_target(path: str) -> None:
    """Whether a file can be written there, leaving nothing behind. Raises NotConnected."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise NotConnected(f"{path} cannot be written: there is no folder {folder} on this node")
    if Path(path).exists() and not Path(path).is_file():
        raise NotConnected(f"{path} cannot be written: it is no file")
    if not os.access(path if Path(path).exists() else folder, os.W_OK):
        raise NotConnected(f"{path} may not be written by the user that runs the stages, uid {os.geteuid()}")


def _lock(file: int, path: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NotConnected(f"{path} is being written by another process: give each its own file") from None


def _mend(file: int, path: str, format_: str) -> None:
    """No half lines: one that a crash left at the end was never confirmed, so it goes. JSON that is whole gets the
    line end that it lacks."""
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return
    tail = os.pread(file, LINE_BYTES, max(0, size - LINE_BYTES))
    start = tail.rfind(b"\n") + 1
    if start == 0 and size > LINE_BYTES:
        raise NotConnected(f"{path} holds no lines: it is left as it is; move it away, or name another file")
    half = tail[start:]
    if format_ == "json" and _is_json(half):
        _write_all(file, b"\n")
        return
    log.warning("%s ended within a line, which is cut off: %s", path, shown(half, _SHOWN_BYTES))
    os.ftruncate(file, size - len(half))


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _csv(cells: Sequence[str], delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """As it is read back: null is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
