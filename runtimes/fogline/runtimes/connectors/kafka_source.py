"""The reading end of a Kafka queue: a member of a group, whose offsets are committed behind what is done.

::

    source   opened --bind--> joining --assigned--> reading <--revoked, assigned--> ...   (fenced: superseded)
    record   fetched --> taken --> acknowledged --> committed, with everything before it in its partition

A record is good for the assignment that brought it: once its partition was revoked, its acknowledgement is passed
over, and whoever has the partition now gets the record again. The pump acknowledges in arrival order, so the last
acknowledged offset of a partition is the end of its contiguous prefix.

Kafka does not say that a record comes again; how far a reader had fetched is kept with its committed offset, so that
`redelivered` is right but for what came since the last commit. A reader is a static
member (KIP-345) under its client id: a process that was killed and started again has its partitions back at once,
and a second one under the same name fences the first.
"""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from fogline.runtimes.connectors.base import Source
from fogline.runtimes.connectors.kafka_client import Fetched, Place, Reader, ReaderUser, Wish, about, carried_by
from fogline.runtimes.connectors.turns import Turns
from fogline.runtimes.errors import NotConnected, RuntimeFault, Superseded
from fogline.runtimes.message import Carried, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import SUPERSEDED, EndpointSpec

log = logging.getLogger("fogline.kafka")

BIND_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 1.0
COMMIT_S = 0.1
"""How long a finished record may wait for its commit; once more as long for one that says what was fetched since."""
HELD_BYTES = 32 * 1024 * 1024
"""Payloads that are here and not acknowledged; beyond that nothing more is asked for, however many the window has."""
PAUSE_S = 1.0
"""After how long with a full window the partitions are paused: the client must be called all the same."""


class KafkaSource(Source):
    def __init__(
        self,
        endpoint: EndpointSpec,
        poller: Poller,
        window: int,
        wish: Wish,
        make_reader: Callable[[Wish, ReaderUser], Reader],
    ) -> None:
        self.endpoint = endpoint
        self._fenced: Superseded | None = None
        self._poller = poller
        self._window = window
        self._wish = wish
        self._reader = make_reader(wish, self)
        self._turns = Turns(poller, self._turn)
        self._tells = "metadata" in endpoint.options
        self._arrived: collections.deque[Message] = collections.deque()
        self._out = 0
        """Taken, and not acknowledged."""
        self._bytes = 0
        """Of the payloads of those, and of what has arrived."""
        self._bound = False
        self._joined = False
        self._stopped = False
        self._assignments = 0
        self._assigned: dict[int, int] = {}
        """Partition -> number of the assignment that is in force."""
        self._expected: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        """Partition -> the offset after the highest that ever came."""
        self._done: dict[int, int] = {}
        """Partition -> the offset to commit."""
        self._commit_at = 0.0
        self._full_since = 0.0
        self._paused = False

    @property
    def failure(self) -> RuntimeFault | None:
        return self._fenced

    @property
    def connected(self) -> bool:
        return self._turns.running and not self._reader.error and self._joined == self._bound

    @property
    def error(self) -> str:
        return str(self.failure) if self.failure is not None else self._reader.error

    @property
    def lag(self) -> int | None:
        return self._reader.lag

    def open(self) -> None:
        with self._poller.lock:
            self._reader.open()
            self._turns.start()

    def bind(self) -> None:
        with self._poller.lock:
            if not self._bound:
                self._bound = True
                self._reader.subscribe()
            deadline = time.monotonic() + BIND_TIMEOUT_S
            while not self._joined and self.failure is None and time.monotonic() < deadline:
                self._poller.wait(0.1)
            if not self.connected:
                words = f"kafka {self._wish.server}: no partitions of {self._wish.topic} were assigned"
                raise self.failure or NotConnected(self.error or f"{words} within {BIND_TIMEOUT_S:g} s")

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        arrived = self._arrived
        with self._poller.lock:
            if not arrived:
                self._fetch()
            if not arrived:
                self._poller.wait(timeout_s)
            messages = [arrived.popleft() for _ in range(min(max_messages, len(arrived)))]
            self._out += len(messages)
        return messages

    def ack(self, messages: Sequence[Message]) -> None:
        with self._poller.lock:
            self._out -= len(messages)
            for message in messages:
                self._bytes -= len(message.payload)
                partition, offset = message.handle
                if self._assigned.get(partition) == message.connection:
                    self._done[partition] = offset + 1
            if self._done and not self._commit_at:
                self._commit_at = time.monotonic() + COMMIT_S

    def stop_intake(self) -> None:
        with self._poller.lock:
            self._stopped = True
            self._arrived.clear()

    def close(self) -> None:
        with self._poller.lock:
            self._turns.stop()
            if self.failure is None:
                self._commit_at_the_end()
            self._reader.close()

    # From the client ----------------------------------------------------------------------------

    def on_assigned(self, partitions: Mapping[int, Place]) -> None:
        self._joined = True
        for partition, committed in partitions.items():
            self._assignments += 1
            self._assigned[partition] = self._assignments
            self._seen[partition] = max(committed.seen, self._seen.get(partition, -1))
            if committed.offset >= 0:
                self._expected[partition] = committed.offset

    def on_revoked(self, partitions: Sequence[int]) -> None:
        if done := self._places(partitions):
            self._reader.commit_now(done, CLOSE_TIMEOUT_S)
        self.on_lost(partitions)

    def on_lost(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            for known in (self._done, self._assigned, self._expected):
                known.pop(partition, None)
        kept = [message for message in self._arrived if message.handle[0] in self._assigned]
        self._bytes -= sum(len(each.payload) for each in self._arrived) - sum(len(each.payload) for each in kept)
        self._arrived = collections.deque(kept)

    def on_fenced(self) -> None:
        words = f"another client reads as {self._wish.client_id} at kafka {self._wish.server}"
        self._fenced = Superseded(f"{SUPERSEDED}: {words}")

    # In turns -----------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Whether something happened."""
        return self._fetch() > 0

    def _places(self, partitions: Sequence[int]) -> dict[int, Place]:
        """What there is to commit of these, which is then on its way."""
        return {
            each: Place(self._done.pop(each), self._seen.get(each, -1)) for each in partitions if each in self._done
        }

    def _fetch(self) -> int:
        if not self._bound or self.failure is not None:
            return 0
        held = self._stopped or self._bytes >= HELD_BYTES
        room = 0 if held else max(0, self._window - self._out - len(self._arrived))
        self._press_back(full=room == 0)
        fetched = self._reader.fetch(room) if room or self._paused else []
        now = time.monotonic()
        if fetched and not self._stopped:
            self._keep(fetched, now)
        self._commit_when_due(now, fetched=bool(fetched))
        return len(fetched)

    def _commit_when_due(self, now: float, *, fetched: bool) -> None:
        if self._commit_at and now >= self._commit_at + (0.0 if fetched else COMMIT_S):
            self._commit_at = 0.0
            self._reader.commit(self._places(tuple(self._done)))

    def _commit_at_the_end(self) -> None:
        if done := self._places(tuple(self._done)):
            self._reader.commit_now(done, CLOSE_TIMEOUT_S)

    def _press_back(self, *, full: bool) -> None:
        """A client that is not called loses its partitions; one that is called must bring nothing now."""
        now = time.monotonic()
        if not full:
            self._full_since = 0.0
        elif not self._full_since:
            self._full_since = now
        paused = full and now - self._full_since >= PAUSE_S
        if paused != self._paused:
            self._paused = paused
            self._reader.pause(paused)

    def _keep(self, fetched: Sequence[Fetched], now: float) -> None:
        """One loop over all that came: it is what each record costs."""
        assigned, expected, seen, tells = self._assigned, self._expected, self._seen, self._tells
        arrive = self._arrived.append
        for record in fetched:
            topic, partition, offset, payload, key, time_ms, headers = record
            number = assigned.get(partition)
            if number is None:
                continue
            if offset != expected.get(partition, offset):
                self._look_for_a_gap(partition, offset)
            expected[partition] = following = offset + 1
            redelivered = offset < seen.get(partition, 0)
            if not redelivered:
                seen[partition] = following
            if headers:
                ident, carried = carried_by(record)
            else:  # of a foreign record, which is the common case where it is much
                ident, carried = f"{topic}/{partition}/{offset}", Carried(key, time_ms)
            told = about(record) if tells else None
            self._bytes += len(payload)
            arrive(Message(payload, ident, number, redelivered, (partition, offset), now, carried, told))

    def _look_for_a_gap(self, partition: int, offset: int) -> None:
        """Offsets skip where a topic is compacted or holds transactions; else the broker forgot what was not read."""
        expected, lowest = self._expected[partition], self._reader.lowest(partition)
        if lowest > expected:
            log.error(
                "kafka %s: %d records of %s, partition %d, were deleted by the broker before they were read "
                "(offsets %d to %d): its retention is shorter than this reader was behind",
                self._wish.server,
                lowest - expected,
                self._wish.topic,
                partition,
                expected,
                lowest - 1,
            )
