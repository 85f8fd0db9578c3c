"""The pump: sources -> graph -> sinks, in micro-batches, with a bounded window.

One turn: settle what is confirmed (acknowledge, count), send what could not be sent yet, take what has
arrived, run it, send it. A message is acknowledged only when everything derived from it is confirmed or
filtered. At most `2 x max_size` messages are out at once: a slow sink therefore stops the source.

::

    running --finish()--> finishing --window empty--> (run returns)
       |  \\--end of every input--^
       |---a record failed--> finishing what came before it --> raises RecordFailed
       \\---a connector gave up--> raises Superseded
"""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fogline.runtimes.codecs import Decode, codec
from fogline.runtimes.connectors.base import Endpoint, Receipt, Sink, Source
from fogline.runtimes.counters import Counters, Tally
from fogline.runtimes.errors import BackOff, EndOfInput, Failure, RecordFailed
from fogline.runtimes.graph import SinkKey, StageGraph
from fogline.runtimes.message import Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import BatchSpec
from fogline.runtimes.taps import Taps

IDLE_S = 0.5
"""Longest wait of an idle turn: how old `progressed_at` may grow in a pump that is well."""
FINISH_S = 30.0
"""How long what came before a failed record may take to be confirmed."""


class Unfinished(Exception):
    """The deadline passed with messages still out; they stay with the broker and come again."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} messages were not confirmed in time; they will be delivered again")
        self.count = count


@dataclass
class _Batch:
    """What one take became, until it is acknowledged."""

    messages: list[Message]
    tallies: dict[str, Tally]
    unsent: collections.deque[tuple[SinkKey, list[Item]]]
    receipts: list[tuple[str, Receipt]] = field(default_factory=list)
    """With the stage that wrote it."""

    @property
    def confirmed(self) -> bool:
        return not self.unsent and all(receipt.left == 0 for _, receipt in self.receipts)


class _Inlet:
    """A source and the batches of it that are out, oldest first."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.stage = source.endpoint.stage
        self.queue = source.endpoint.queue
        self.decode: Decode = codec(str(source.endpoint.options.get("format", "json")))[0]
        self.batches: collections.deque[_Batch] = collections.deque()
        self.ended = False
        self.not_before = 0.0


@dataclass(frozen=True)
class Parts:
    """What a pump is put together from."""

    sources: Sequence[Source]
    sinks: Mapping[SinkKey, Sink]
    graph: StageGraph
    counters: Counters
    poller: Poller
    taps: Taps


class Pump:
    """`run` until `finish`. Everything but `finish` and `progressed_at` belongs to the calling thread."""

    def __init__(self, parts: Parts, batch: BatchSpec) -> None:
        self.progressed_at = time.monotonic()
        """When the last turn began: far in the past while user code hangs."""
        self._inlets = collections.deque(_Inlet(source) for source in parts.sources)
        self._sinks = parts.sinks
        self._graph = parts.graph
        self._counters = parts.counters
        self._poller = parts.poller
        self._taps = parts.taps
        self._batch = batch
        self._window = 2 * batch.max_size
        self._out = 0
        self._failure: Failure | None = None
        self._deadline: float | None = None
        self._endpoints: tuple[Endpoint, ...] = (*parts.sources, *parts.sinks.values())

    @property
    def finishing(self) -> bool:
        return self._deadline is not None

    def finish(self, deadline_s: float) -> None:
        """Take nothing more; let `run` return when all is acknowledged. Safe from any thread; a later
        call can only shorten the deadline."""
        deadline = time.monotonic() + deadline_s
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
        self._poller.wake()

    def run(self) -> None:
        """Pump until finished.

        Raises RecordFailed when a record failed for good and all before it is acknowledged, Superseded
        when a connector gave up, Unfinished when the deadline passed first.
        """
        stopped = False
        while True:
            self.progressed_at = time.monotonic()
            self._look_after_connectors()
            if self._deadline is not None and not stopped:
                stopped = True
                for inlet in self._inlets:
                    inlet.source.stop_intake()
            self._settle()
            if stopped and self._out == 0:
                break
            if stopped and self._deadline is not None and time.monotonic() > self._deadline:
                self._end()
                raise Unfinished(self._out)
            self._turn(taking=not stopped)
        self._end()

    def _end(self) -> None:
        if self._failure is not None:
            raise RecordFailed(self._failure)

    def _turn(self, *, taking: bool) -> None:
        if self._send_unsent():
            return
        if not taking or self._out >= self._window or (not self._take_from_any() and not self._may_settle()):
            self._poller.wait(self._idle_s())

    def _look_after_connectors(self) -> None:
        for endpoint in self._endpoints:
            if endpoint.failure is not None:
                raise endpoint.failure

    # In -----------------------------------------------------------------------------------------

    def _take_from_any(self) -> bool:
        """Take from the first source that has something, another one first each time."""
        self._inlets.rotate(-1)
        now = time.monotonic()
        for inlet in self._inlets:
            if inlet.ended or inlet.not_before > now:
                continue
            messages = self._take(inlet)
            if messages:
                self._process(inlet, messages)
                return True
        if all(inlet.ended for inlet in self._inlets):
            self.finish(FINISH_S)
        return False

    def _take(self, inlet: _Inlet) -> list[Message]:
        limit = min(self._batch.max_size, self._window - self._out)
        messages = self._ask(inlet, limit, 0.0)
        if messages and self._batch.max_wait_s > 0:
            deadline = messages[0].arrived_at + self._batch.max_wait_s
            while len(messages) < limit and (left_s := deadline - time.monotonic()) > 0:
                if inlet.ended or self.finishing:
                    break
                messages += self._ask(inlet, limit - len(messages), left_s)
        return messages

    def _ask(self, inlet: _Inlet, limit: int, timeout_s: float) -> list[Message]:
        try:
            return inlet.source.take(limit, timeout_s)
        except EndOfInput:
            inlet.ended = True
        except BackOff as signal:
            inlet.not_before = time.monotonic() + signal.seconds
        return []

    def _process(self, inlet: _Inlet, messages: list[Message]) -> None:
        items = [Item(origin, message.id, message.payload) for origin, message in enumerate(messages)]
        if self._taps.queues and not inlet.source.endpoint.written_by_stage:
            self._taps.offer(inlet.queue, items)
        redelivered = sum(message.redelivered for message in messages)
        if redelivered:
            self._counters.add(inlet.stage, "redelivered", redelivered)
        flow = self._graph.run({inlet.stage: items}, inlet.decode)
        if flow.failure is not None:
            self._failure = flow.failure
            messages = messages[: flow.failure.origin]
            self.finish(FINISH_S)
        unsent = collections.deque((key, items) for key, items in flow.outputs.items() if items)
        inlet.batches.append(_Batch(messages, flow.tallies, unsent))
        self._out += len(messages)
        self._send_unsent()

    # Out ----------------------------------------------------------------------------------------

    def _send_unsent(self) -> bool:
        """Hand everything to its sink, in order. True: a sink asked to be left alone, and was waited for."""
        for inlet in self._inlets:
            for batch in inlet.batches:
                while batch.unsent:
                    key, items = batch.unsent[0]
                    try:
                        receipt = self._sinks[key].send(items)
                    except BackOff as signal:
                        self._poller.wait(signal.seconds)
                        return True
                    batch.unsent.popleft()
                    batch.receipts.append((key[0], receipt))
        return False

    def _settle(self) -> None:
        """Acknowledge the confirmed batches at the head of each source: arrival order, no gaps."""
        for inlet in self._inlets:
            while inlet.batches and inlet.batches[0].confirmed:
                batch = inlet.batches.popleft()
                inlet.source.ack(batch.messages)
                self._out -= len(batch.messages)
                self._count(batch)

    def _may_settle(self) -> bool:
        """A fruitless take may have brought a confirmation: then there is no event left to wait for."""
        return any(inlet.batches and inlet.batches[0].confirmed for inlet in self._inlets)

    def _count(self, batch: _Batch) -> None:
        self._counters.settle(batch.tallies)
        for stage, receipt in batch.receipts:
            if receipt.unrouted:
                self._counters.add(stage, "unrouted", receipt.unrouted)
        now = time.monotonic()
        self._counters.latencies([now - message.arrived_at for message in batch.messages])

    def _idle_s(self) -> float:
        now = time.monotonic()
        until = [inlet.not_before for inlet in self._inlets if inlet.not_before > now]
        if self._deadline is not None:
            until.append(self._deadline)
        return max(0.0, min([IDLE_S, *(each - now for each in until)]))
