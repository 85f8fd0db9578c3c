"""Files as queues: what a glob holds is read to its end, and records are written as lines.

::

    take --row--> handed out --ack--> position, on the disk at most 0.2 s later
      `--nothing new in any file--> EndOfInput
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.base import Sink, Source
from fogline.runtimes.connectors.file_reader import Opened, Reader, matching
from fogline.runtimes.connectors.file_rows import BadHeader, Row
from fogline.runtimes.connectors.file_sink import FileSink, Writers, check_target
from fogline.runtimes.connectors.positions import SAVE_S, Positions
from fogline.runtimes.errors import BackOff, EndOfInput, NotConnected, Superseded
from fogline.runtimes.logs import log
from fogline.runtimes.message import Message, just_read
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec, SpecError

AHEAD_WINDOWS = 8
"""So many windows of messages may be handed out on the strength of one saved position."""


@dataclass(slots=True)
class _Given:
    """A message that is out: its number, and how far its file is read once it is acknowledged."""

    number: int
    opened: Opened
    offset: int
    lines: int


class FileSource(Source):
    """The files of a glob, in the order of their names, each in its own order."""

    failure: Superseded | None = None

    def __init__(self, endpoint: EndpointSpec, poller: Poller, window: int) -> None:
        self.endpoint = endpoint
        given = endpoint.options
        path, format_, delimiter = path_of(endpoint), str(given.get("format", "json")), str(given.get("delimiter", ","))
        self._reader = Reader(path, format_, delimiter)
        self._poller = poller
        self._window = window
        self._positions = Positions(endpoint.client_id)
        self._connection = 0
        self._usable = self._bound = self._stopped = False
        self._error = ""
        self._delays = Delays()
        self._out: collections.deque[_Given] = collections.deque()
        self._acked: set[int] = set()
        self._numbers = 0
        self._again = 0
        """How many of the next messages may have been handed out before."""
        self._covered = 0
        """How many may be handed out before the positions are saved again."""
        self._unsaved = False
        self._saved_at = 0.0
        self._save_due = False

    @property
    def connected(self) -> bool:
        return self._usable and not self._error

    @property
    def error(self) -> str:
        return self._error

    def open(self) -> None:
        self._forget()
        self._positions.load()
        self._reader.begin(self._positions.places)
        self._again = self._positions.ahead
        self._connection += 1
        self._usable = True

    def bind(self) -> None:
        self._bound = True

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        count = min(max_messages, self._window - len(self._out))
        if not self._bound or not self._usable or self._stopped or count <= 0:
            self._poller.wait(timeout_s)
            return []
        with self._poller.lock:
            return self._taken(count)

    def ack(self, messages: Sequence[Message]) -> None:
        with self._poller.lock:
            self._acked.update(each.handle for each in messages if each.connection == self._connection)
            while self._out and self._out[0].number in self._acked:
                given = self._out.popleft()
                self._acked.remove(given.number)
                self._positions.set(given.opened.path, given.opened.place(given.offset, given.lines))
                self._unsaved = True
            self._save_soon()

    def stop_intake(self) -> None:
        self._stopped = True
        self._reader.close()

    def close(self) -> None:
        with self._poller.lock:
            if self._usable and (self._unsaved or self._positions.ahead):
                self._unsaved = True
                self._save(exactly=True)
            self._forget()
            self._usable = False

    def _taken(self, count: int) -> list[Message]:
        found: list[Message] = []
        try:
            self._cover(count)
            while len(found) < count and (read := self._reader.next()) is not None:
                found.append(self._message(*read))
        except (OSError, BadHeader) as error:
            self._hold(error)
        else:
            self._error = ""
            self._delays.reset()
            if not found:
                raise EndOfInput
        if not found:
            raise BackOff(self._delays.next_s())
        return found

    def _message(self, opened: Opened, row: Row) -> Message:
        self._numbers += 1
        redelivered = self._again > 0
        self._again -= redelivered
        self._covered -= 1
        self._out.append(_Given(self._numbers, opened, row.end, row.lines))
        ident = f"{opened.path}:{row.line}"
        return Message(row.payload, ident, self._connection, redelivered, self._numbers, time.monotonic(), just_read())

    def _hold(self, error: OSError | BadHeader) -> None:
        """Reading stops here until it is mended: to pass over a file would be to lose it."""
        words = f"{getattr(error, 'filename', None) or self._reader.path}: {getattr(error, 'strerror', None) or error}"
        if words != self._error:
            log.error("queue %s: %s; not read any further until that is mended", self.endpoint.queue, words)
        self._error = words
        self._reader.close()

    def _forget(self) -> None:
        self._reader.close()
        self._out.clear()
        self._acked.clear()
        self._covered = 0

    # Positions ------------------------------------------------------------------------------------

    def _cover(self, count: int) -> None:
        """Have on the disk that so many messages more may be handed out. Raises OSError."""
        if count > self._covered:
            self._write(AHEAD_WINDOWS * self._window)

    def _save_soon(self) -> None:
        if not self._unsaved or self._save_due:
            return
        left_s = self._saved_at + SAVE_S - time.monotonic()
        if left_s <= 0:
            self._save()
        else:
            self._save_due = True
            self._poller.call_later(left_s, self._save)

    def _save(self, *, exactly: bool = False) -> None:
        """Progress that cannot be written only comes again; nothing is handed out beyond what is written."""
        self._save_due = False
        if not self._unsaved or not self._usable:
            return
        try:
            self._write(0 if exactly else AHEAD_WINDOWS * self._window)
        except OSError as error:
            log.warning("queue %s: its positions are not saved: %s", self.endpoint.queue, error)

    def _write(self, more: int) -> None:
        self._positions.forget_missing()
        self._positions.save(len(self._out) + max(more, self._again))
        self._saved_at = time.monotonic()
        self._unsaved = False
        self._covered = more


def path_of(endpoint: EndpointSpec) -> str:
    """The path of a queue. Raises SpecError for one that means another file in every folder."""
    path = str(endpoint.options.get("path", ""))
    if not os.path.isabs(path):
        raise SpecError(f"queue {endpoint.queue}: the path {path!r} must be absolute: it is looked up on this node")
    return path


class FileConnector:
    """Both ends, and what the command line needs besides."""

    def __init__(self) -> None:
        self._writers = Writers()

    def source(self, endpoint: EndpointSpec, poller: Poller, window: int) -> Source:
        return FileSource(endpoint, poller, window)

    def sink(self, endpoint: EndpointSpec, poller: Poller) -> Sink:
        path = path_of(endpoint)
        if "*" in path or "?" in path:
            raise SpecError(f"queue {endpoint.queue}: {path} is written, so it names one file: without * and ?")
        return FileSink(endpoint, poller, self._writers)

    def check(self, endpoint: EndpointSpec) -> None:
        path = path_of(endpoint)
        if not endpoint.group:  # a writer
            check_target(path)
            return
        found = matching(path)
        if not found:
            raise NotConnected(f"no file matches {path} on this node")
        closed = next((each for each in found if not os.access(each, os.R_OK)), None)
        if closed is not None:
            raise NotConnected(f"{closed} may not be read by the user that runs the stages")

    def release(self, endpoint: EndpointSpec, *, others: bool = False) -> int:
        try:
            Positions(endpoint.client_id).release()
        except OSError as error:
            raise NotConnected(f"the positions of {endpoint.client_id} stay: {error.strerror}") from None
        return 0


connector = FileConnector()
