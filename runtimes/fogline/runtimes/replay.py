"""Dead letters on their way back: one more source of the pump, over the file instead of a broker.

A letter is deleted when everything made of it is confirmed, and stays, with its newest failure, when it
fails again. What was asked for and not run when the process ends is simply still in the file.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable, Sequence

from fogline.runtimes.connectors.base import Source
from fogline.runtimes.errors import BackOff, NotKept, Superseded
from fogline.runtimes.letter_file import Letter, LetterFile
from fogline.runtimes.logs import log
from fogline.runtimes.message import Carried, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

DELETED_TOGETHER = 64
AGAIN_S = 1.0


class ReplaySource(Source):
    """The letters of one source of the segment. `request` may be called from any thread."""

    connected = True
    error = ""
    failure: Superseded | None = None

    def __init__(self, endpoint: EndpointSpec, poller: Poller, file: LetterFile) -> None:
        self.endpoint = endpoint
        self._poller = poller
        self._file = file
        self._wanted: collections.deque[int] = collections.deque()
        self._out: set[int] = set()
        self._failed: set[int] = set()
        self._done: list[int] = []
        self._deleting = False
        """It will be tried again by a timer."""

    def request(self, numbers: Iterable[int]) -> None:
        """Bring these letters; one that is under way already comes once."""
        self._wanted.extend(numbers)
        self._poller.wake()

    def open(self) -> None: ...

    def bind(self) -> None: ...

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        """One letter at a time: it is known to be trouble."""
        while self._wanted:
            number = self._wanted.popleft()
            if number in self._out or number in self._done:
                continue
            try:
                found = list(self._file.show([number]))
            except NotKept:
                self._wanted.appendleft(number)
                raise BackOff(AGAIN_S) from None
            for row in found:
                self._out.add(number)
                carried = Carried(row["key"], row["time_ms"], row["traceparent"])
                return [Message(row["payload"], row["id"], 0, False, number, time.monotonic(), carried)]
        if self._done and not self._deleting:
            self._delete()
        if timeout_s > 0:
            self._poller.wait(timeout_s)
        return []

    def keep(self, letters: Sequence[Letter]) -> None:
        """They failed again. Raises NotKept."""
        self._file.keep(letters)
        self._failed.update(each.number for each in letters)

    def ack(self, messages: Sequence[Message]) -> None:
        numbers = {message.handle for message in messages}
        self._done.extend(numbers - self._failed)
        self._out -= numbers
        self._failed -= numbers
        if len(self._done) >= DELETED_TOGETHER and not self._deleting:
            self._delete()

    def stop_intake(self) -> None:
        self._wanted.clear()
        self._delete()

    def close(self) -> None:
        self._delete()

    def _delete(self) -> None:
        self._deleting = False
        if not self._done:
            return
        try:
            self._file.discard(self._done)
        except NotKept as error:  # it would be replayed once more, never lost
            log.warning("replayed letters %s are not deleted yet: %s", self._done, error.reason)
            self._deleting = True
            self._poller.call_later(AGAIN_S, self._delete)
        else:
            self._done = []
