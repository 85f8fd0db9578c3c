"""The pump: sources -> graph -> sinks, in micro-batches, with a bounded window.

One turn: settle what is confirmed (count, acknowledge), send what could not be sent yet, take what has
arrived, run it, send it. A message is acknowledged only when everything derived from it is confirmed,
filtered, or on the disk as a dead letter; while that cannot be written its source is held. At most
`2 x max_size` messages are out at once: a slow sink therefore stops the source.

::

    running --finish()--> finishing --window empty--> (run returns)
       |---end of every input, all of it acknowledged--> (run returns, `ended`)
       |---a record failed, `stop`--> finishing what came before it --> raises RecordFailed
       \\---a connector gave up--> raises Superseded
"""

from __future__ import annotations

import collections
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fogline.runtimes.connectors.base import Endpoint, Sink
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import BackOff, EndOfInput, Failure, RecordFailed
from fogline.runtimes.graph import Flow, SinkKey, StageGraph
from fogline.runtimes.inlets import Batch, Inlet
from fogline.runtimes.logs import log
from fogline.runtimes.message import Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import BatchSpec
from fogline.runtimes.suspects import Suspects
from fogline.runtimes.taps import Taps

IDLE_S = 0.5
"""Longest wait of an idle turn: how old `progressed_at` may grow in a pump that is well."""
FINISH_S = 30.0
"""How long what came before a failed record may take to be confirmed."""


BATCH_S = 0.25
"""What runs together is to take no longer, whatever `max-size` allows: nothing of it is acknowledged before."""


class Unfinished(Exception):
    """The deadline passed with messages still out; they stay with the broker and come again."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} messages were not confirmed in time; they will be delivered again")
        self.count = count


@dataclass(frozen=True)
class Parts:
    """What a pump is put together from."""

    inlets: Sequence[Inlet]
    sinks: Mapping[SinkKey, Sink]
    graph: StageGraph
    counters: Counters
    suspects: Suspects
    poller: Poller
    taps: Taps


class Pump:
    """`run` until `finish`. Everything but `finish`, `held` and `progressed_at` belongs to the calling thread."""

    def __init__(self, parts: Parts, batch: BatchSpec) -> None:
        self.progressed_at = time.monotonic()
        """When the last turn began: far in the past while user code hangs."""
        self._inlets = collections.deque(parts.inlets)
        self._all = tuple(parts.inlets)
        self._sinks = parts.sinks
        self._graph = parts.graph
        self._counters = parts.counters
        self._suspects = parts.suspects
        self._poller = parts.poller
        self._taps = parts.taps
        self._batch = batch
        self._window = 2 * batch.max_size
        self._at_once = batch.max_size
        """As many as would have taken `BATCH_S` at the pace of the last batch."""
        self._out = 0
        self._failure: Failure | None = None
        self.ended = False
        """Every input is at its end. What came of it is confirmed once `run` has returned, however long that takes."""
        self._deadline: float | None = None
        self._leaving: frozenset[str] = frozenset()
        self._endpoints: tuple[Endpoint, ...] = (*(each.source for each in parts.inlets), *parts.sinks.values())

    @property
    def finishing(self) -> bool:
        return self._deadline is not None

    @property
    def held(self) -> str:
        """Why dead letters cannot be kept; empty while all is well."""
        return "; ".join(dict.fromkeys(inlet.held for inlet in self._all if inlet.held))

    def finish(self, deadline_s: float, leaving: Collection[str] = ()) -> None:
        """Take nothing more; let `run` return when all is acknowledged. Safe from any thread; a later
        call can only shorten the deadline. `leaving`: client ids of readers that are brought to an end first."""
        self._leaving = frozenset(leaving) if self._deadline is None else self._leaving
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
                self._stop_intake()
            self._keep_letters()
            self._settle()
            if (stopped or self.ended) and self._out == 0 and not self._emptying():
                break
            if stopped and self._deadline is not None and time.monotonic() > self._deadline:
                self._end()
                raise Unfinished(self._out)
            self._turn(taking=not stopped or self._emptying())
        self._end()

    def _end(self) -> None:
        if self._failure is not None:
            raise RecordFailed(self._failure)

    def _stop_intake(self) -> None:
        """What was taken and not run yet stays with the broker, as what was not taken."""
        for inlet in self._inlets:
            leaving = inlet.source.endpoint.client_id in self._leaving and not inlet.replays
            if leaving and self._failure is None and inlet.source.leave():
                inlet.emptying = True
                continue
            inlet.source.stop_intake()
            self._out -= len(inlet.waiting)
            inlet.waiting = []

    def _emptying(self) -> bool:
        return any(inlet.emptying and not inlet.ended for inlet in self._inlets)

    def _turn(self, *, taking: bool) -> None:
        if self._send_unsent():
            return
        if not taking or (not self._run_something() and not self._may_settle()):
            self._poller.wait(self._idle_s())

    def _look_after_connectors(self) -> None:
        for endpoint in self._endpoints:
            if endpoint.failure is not None:
                raise endpoint.failure

    # In -----------------------------------------------------------------------------------------

    def _run_something(self) -> bool:
        """From the first source that has something, another one first each time."""
        self._inlets.rotate(-1)
        now = time.monotonic()
        for inlet in self._inlets:
            if inlet.held:
                continue
            if not inlet.waiting and not inlet.ended and inlet.not_before <= now and self._out < self._window:
                self._accept(inlet, self._take(inlet))
            if inlet.waiting and (messages := inlet.next_batch(self._suspects)):
                self._run(inlet, messages)
                if inlet.waiting:
                    self._poller.wait(0.0)  # no take will serve the sockets in between
                return True
        if not self.finishing:
            self.ended = all(inlet.ended and not inlet.waiting for inlet in self._inlets if not inlet.replays)
        return False

    def _take(self, inlet: Inlet) -> list[Message]:
        limit = min(self._at_once, self._window - self._out)
        messages = self._ask(inlet, limit, 0.0)
        if messages and self._batch.max_wait_s > 0:
            deadline = messages[0].arrived_at + self._batch.max_wait_s
            while len(messages) < limit and (left_s := deadline - time.monotonic()) > 0:
                if inlet.ended or self.finishing:
                    break
                messages += self._ask(inlet, limit - len(messages), left_s)
        return messages

    def _ask(self, inlet: Inlet, limit: int, timeout_s: float) -> list[Message]:
        try:
            return inlet.source.take(limit, timeout_s)
        except EndOfInput:
            inlet.ended = True
        except BackOff as signal:
            inlet.not_before = time.monotonic() + signal.seconds
        return []

    def _accept(self, inlet: Inlet, messages: list[Message]) -> None:
        if not messages:
            return
        if self._taps.queues and not inlet.source.endpoint.written_by_stage:
            self._taps.offer(inlet.queue, _items(messages))
        redelivered = [message.redelivered for message in messages].count(True)
        if redelivered:
            self._counters.add(inlet.stage, "redelivered", redelivered)
        inlet.waiting = messages
        self._out += len(messages)

    def _run(self, inlet: Inlet, messages: list[Message]) -> None:
        began = time.monotonic()
        flow = self._flow(inlet, messages)
        each_s = (time.monotonic() - began) / len(messages)
        self._at_once = max(1, min(self._batch.max_size, int(BATCH_S / max(each_s, 1e-9))))
        if flow.failure is not None:
            self._failure = flow.failure
            self._out -= len(messages) - flow.failure.origin
            messages = messages[: flow.failure.origin]
            self.finish(FINISH_S)
        unsent = collections.deque([(key, items) for key, items in flow.outputs.items() if items])
        for key, origins in flow.copies.items():
            unsent.append((key, [_item(origin, messages[origin]) for origin in sorted(origins)]))
        letters = [inlet.letter(messages[origin], failure) for origin, failure in flow.letters.items()]
        _tell(flow)
        inlet.batches.append(Batch(messages, flow.tallies, unsent, letters))
        inlet.running = []
        if letters:
            inlet.keep_letters()
        self._send_unsent()

    def _flow(self, inlet: Inlet, messages: list[Message]) -> Flow:
        """Let user code have them, or not the one that killed the process often enough."""
        items, suspects = _items(messages), self._suspects
        known = suspects.find(messages[0].id) if suspects.anybody and not inlet.replays else None
        if known is not None and known.attempts > (retries := self._graph.retries(known.stage)):
            flow = self._graph.condemned(items[0], known.stage, known.attempts)
            suspects.condemn(messages[0].id, retries)
            return flow
        suspects.enter([message.id for message in messages], messages[0].handle if inlet.replays else 0)
        flow = self._graph.run({inlet.stage: items}, inlet.decode, keep=inlet.replays)
        suspects.leave()
        if known is not None:
            suspects.forget(messages[0].id)
        return flow

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

    def _keep_letters(self) -> None:
        """Try again what could not be kept."""
        for inlet in self._inlets:
            if inlet.held and time.monotonic() >= inlet.not_before:
                inlet.keep_letters()

    def _settle(self) -> None:
        """Acknowledge the confirmed batches at the head of each source: arrival order, no gaps."""
        for inlet in self._inlets:
            while inlet.batches and inlet.batches[0].confirmed:
                batch = inlet.batches.popleft()
                self._count(batch)  # first: a death in between counts it again, as it comes again
                self._out -= len(batch.messages)
                for _, receipt in batch.receipts:
                    receipt.settled = True
                inlet.source.ack(batch.messages)

    def _may_settle(self) -> bool:
        """A fruitless take may have brought a confirmation: then there is no event left to wait for."""
        return any(inlet.batches and inlet.batches[0].confirmed for inlet in self._inlets)

    def _count(self, batch: Batch) -> None:
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


def _items(messages: Sequence[Message]) -> list[Item]:
    return [_item(origin, message) for origin, message in enumerate(messages)]


def _item(origin: int, message: Message) -> Item:
    return Item(origin, message.id, message.payload, message.carried)


def _tell(flow: Flow) -> None:
    """One line per batch, whatever it holds: a flood of bad records must not become a flood of lines."""
    for became, failures in (("made dead letters", flow.letters), ("dropped", flow.dropped)):
        if failures:
            last = list(failures.values())[-1]
            log.warning("stage %s: messages %s: %d; the last: %s", last.stage, became, len(failures), last.reason)
