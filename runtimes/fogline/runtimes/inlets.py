"""A source of the pump with what was taken from it: what waits to run, what is out, what is held."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fogline.runtimes.codecs import Decode, codec
from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.base import Receipt, Source
from fogline.runtimes.counters import Tally
from fogline.runtimes.errors import Failure, NotKept
from fogline.runtimes.graph import SinkKey
from fogline.runtimes.letter_file import Letter
from fogline.runtimes.logs import log
from fogline.runtimes.message import Item, Message
from fogline.runtimes.suspects import Suspects

Keep = Callable[[Sequence[Letter]], None]
"""Makes dead letters durable, all or none. Raises NotKept."""


@dataclass
class Batch:
    """What some messages became, until they are acknowledged."""

    messages: list[Message]
    tallies: dict[str, Tally]
    unsent: collections.deque[tuple[SinkKey, list[Item]]]
    letters: list[Letter]
    """Dead letters that are not on the disk yet."""
    receipts: list[tuple[str, Receipt]] = field(default_factory=list)
    """With the stage that wrote it."""

    @property
    def confirmed(self) -> bool:
        """Nothing is missing for the acknowledgement."""
        return not self.unsent and not self.letters and all(receipt.left == 0 for _, receipt in self.receipts)


class Inlet:
    """A source and its batches, oldest first."""

    def __init__(self, source: Source, segment: str, keep: Keep, *, replays: bool = False) -> None:
        """`replays`: its messages are dead letters, each runs alone."""
        self.source = source
        self.stage = source.endpoint.stage
        self.queue = source.endpoint.queue
        self.decode: Decode = codec(str(source.endpoint.options.get("format", "json")))[0]
        self.replays = replays
        self.batches: collections.deque[Batch] = collections.deque()
        self.waiting: list[Message] = []
        """Taken, and not run yet: they come in several batches."""
        self.running: list[Message] = []
        """In user code now."""
        self.ended = False
        self.emptying = False
        """Nothing new comes, but what is kept for this reader is read to its end."""
        self.not_before = 0.0
        self.held = ""
        """Why dead letters of it cannot be kept. Nothing more is taken or run meanwhile."""
        self._segment = segment
        self._keep = keep
        self._delays = Delays()

    def next_batch(self, suspects: Suspects) -> list[Message]:
        """What runs together: a suspect alone, otherwise all that wait in front of the next one.

        Nothing, when a suspect is next and what came before it is not acknowledged yet: should it kill the
        process, only it comes again.
        """
        waiting = self.waiting
        count = len(waiting)
        if self.replays:
            count = 1
        elif suspects.anybody:
            flags = [suspects.find(message.id) is not None for message in waiting]
            if flags[0]:
                count = 0 if self.batches else 1
            elif True in flags:
                count = flags.index(True)
        self.waiting, self.running = waiting[count:], waiting[:count]
        return self.running

    def oldest_s(self) -> float | None:
        """The age of the oldest message that is not acknowledged: since its origin entered, as far as that is known.
        None: there is none. Called from any thread, so what it looks at may be gone meanwhile."""
        with contextlib.suppress(IndexError):
            oldest = next(iter(self.batches[0].messages if self.batches else self.running or self.waiting), None)
            if oldest is not None:
                since_s = oldest.carried.time_ms / 1000
                age_s = time.time() - since_s if since_s else time.monotonic() - oldest.arrived_at
                return max(0.0, age_s)
        return None

    def letter(self, message: Message, failure: Failure) -> Letter:
        """The message as a dead letter of this source."""
        return Letter(
            segment=self._segment,
            stage=failure.stage,
            reader=self.stage,
            queue=self.queue,
            reason=failure.reason,
            trace=failure.trace,
            attempts=failure.attempts,
            id=message.id,
            payload=message.payload,
            number=message.handle if self.replays else 0,
            **message.carried._asdict(),
        )

    def keep_letters(self) -> None:
        """Put the dead letters of every batch on the disk; on failure hold, and try again later."""
        for batch in self.batches:
            if batch.letters:
                try:
                    self._keep(batch.letters)
                except NotKept as error:
                    self._hold(error.reason)
                    return
                batch.letters = []
        if self.held:
            log.info("queue %s: its dead letters are on the disk, reading goes on", self.queue)
        self.held = ""
        self._delays.reset()

    def _hold(self, reason: str) -> None:
        if not self.held:
            log.error("queue %s: not read until its dead letters are on the disk: %s", self.queue, reason)
        self.held = reason
        self.not_before = time.monotonic() + self._delays.next_s()
