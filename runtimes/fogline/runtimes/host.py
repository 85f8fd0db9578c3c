"""`run`: one segment, from its spec to its exit.

::

    loading --stages loaded, brokers reached--> loaded --bind--> binding --all subscribed--> ready
       |                                          |                 |              drain /     | end of every input
       +-------------------drain------------------+-----------------+              draining    v
                             v                                                        v     exit 0, `finished.json`
                           exit 0                          exit 0: all acknowledged; 1: deadline passed
    a stage cannot be loaded: exit 65      a record failed for good: exit 70      superseded: exit 75

A broker that is away never ends the process: the state stays, with the reason, until it is back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fogline.runtimes import registry
from fogline.runtimes.assembly import Loaded, load_stages, read_spec
from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.base import Endpoint, Sink, Source
from fogline.runtimes.control import DRAIN_S, ControlServer, Refused
from fogline.runtimes.counters import Counters
from fogline.runtimes.endings import FAILURE, FINISHED, ended_by, finished
from fogline.runtimes.errors import NotConnected, NotKept, Superseded
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.garbage import collect_rarely
from fogline.runtimes.graph import SinkKey, StageGraph, Wiring
from fogline.runtimes.inlets import Inlet
from fogline.runtimes.letter_file import LetterFile
from fogline.runtimes.logs import log
from fogline.runtimes.poller import Poller
from fogline.runtimes.progress import longest_stall
from fogline.runtimes.pump import Parts, Pump
from fogline.runtimes.replay import ReplaySource
from fogline.runtimes.spec import Exit, SegmentSpec, SegmentState, SpecError, digest
from fogline.runtimes.state import StateFile
from fogline.runtimes.suspects import Suspects
from fogline.runtimes.taps import Taps

if TYPE_CHECKING:
    from fogline.runtimes.serving.segment import ServedSegment


class Drained(Exception):
    """Asked to end before there was anything to finish."""


@dataclass(frozen=True)
class Places:
    """Where a segment finds and leaves things on this machine."""

    workspace: Path
    artifacts: Path
    dead_letters: Path
    """The file that the segments of one pipeline share."""


class Segment:
    """The composition root of `run`. The control thread calls `status` and the two requests only."""

    def __init__(self, spec: SegmentSpec, spec_digest: str, places: Places) -> None:
        self.spec = spec
        self.spec_digest = spec_digest
        self._frameworks: list[Framework] = []
        self.queues = spec.queues
        self.taps = Taps()
        self._artifacts = places.artifacts
        self._poller = Poller()
        stages = [stage.name for stage in spec.stages]
        self._file = StateFile(places.workspace, stages, spec_digest, spec.batch.max_size)
        self._counters = Counters(stages, self._file.counters)
        self._suspects = Suspects(spec.batch.max_size, self._file.suspects)
        self._letters = LetterFile(places.dead_letters)
        self._state = SegmentState.LOADING
        self._reason = ""
        self._sources: list[Source] = []
        self._sinks: dict[SinkKey, Sink] = {}
        self._replays: list[ReplaySource] = []
        self._inlets: list[Inlet] = []
        self._pump: Pump | None = None
        self._bind_wanted = threading.Event()
        self._drain_s: float | None = None

    def run(self) -> None:
        """From loading to the end. Returns when drained, or at the end of all input.

        Raises StageUnusable, SpecError, RecordFailed, Superseded or Unfinished.
        """
        with contextlib.suppress(Drained):
            self._pump_until_done(load_stages(self.spec, self._artifacts))

    def close(self) -> None:
        """Leave the brokers; unacknowledged messages stay there."""
        for endpoint in (*self._sources, *self._sinks.values(), *self._replays):
            endpoint.close()
        self._poller.close()
        self._counters.close()
        self._suspects.close()
        self._file.close()

    # What other threads may ask -------------------------------------------------------------------

    def request_bind(self) -> None:
        self._bind_wanted.set()
        self._poller.wake()

    def request_drain(self, deadline_s: float, leaving: Collection[str] = ()) -> None:
        self._drain_s = deadline_s
        if self._pump is not None:
            self._pump.finish(deadline_s, leaving)
        self._poller.wake()

    def request_replay(self, numbers: Iterable[int]) -> int:
        """Dead letters of this segment are to run again; how many there are. Others are passed over.

        Raises NotKept when the file cannot be read, Refused when this process is about to end.
        """
        if self._draining:
            raise Refused("it is draining")
        found = self._letters.readers(self.spec.segment, numbers)
        accepted = 0
        for source in self._replays:
            own = found.get((source.endpoint.stage, source.endpoint.queue), [])
            source.request(own)
            accepted += len(own)
        return accepted

    def request_routes(self, _revision: str) -> None:
        raise Refused("this segment reads queues: nobody sends it requests")

    def status(self) -> dict[str, Any]:
        progressed_at = self._pump.progressed_at if self._pump is not None else time.monotonic()
        endpoints: list[Endpoint] = [*self._sources, *self._sinks.values()]
        wrong = [endpoint.error for endpoint in endpoints if endpoint.error]
        if self._pump is not None and self._pump.held:
            wrong.append(self._pump.held)
        stalled_s, stalled_stage = longest_stall((each.progress, each.stage.name) for each in self._frameworks)
        return {
            "state": SegmentState.DRAINING if self._draining else self._state,
            "reason": self._reason or "; ".join(dict.fromkeys(wrong)),
            "pid": os.getpid(),
            "last_progress_s": round(time.monotonic() - progressed_at, 3),
            "stalled_s": stalled_s,
            "stalled_stage": stalled_stage,
            "stages": self._counters.rows(),
            "connections": [_connection(each) | self._behind(each) for each in endpoints],
        }

    def _behind(self, end: Endpoint) -> dict[str, Any]:
        """How far behind a reader is."""
        for inlet in self._inlets:
            if inlet.source is end:
                return {"reader": inlet.stage, "lag": inlet.source.lag, "oldest_s": inlet.oldest_s()}
        return {}

    @property
    def ended(self) -> bool:
        """Whether all input is at its end; once `run` has returned, also acknowledged."""
        return self._pump is not None and self._pump.ended

    @property
    def _draining(self) -> bool:
        return self._drain_s is not None or (self._pump is not None and self._pump.finishing)

    # The way to ready and on ----------------------------------------------------------------------

    def _pump_until_done(self, loaded: Loaded) -> None:
        self._frameworks = [framework for _, framework in loaded]
        collect_rarely()
        window = 2 * self.spec.batch.max_size
        for sink in self.spec.sinks:
            self._sinks[sink.stage, sink.queue] = registry.connector(sink).sink(sink, self._poller)
        for source in self.spec.sources:
            self._sources.append(registry.connector(source).source(source, self._poller, window))
            self._replays.append(ReplaySource(source, self._poller, self._letters))
        pump = self._make_pump(loaded)
        for endpoint in sorted((*self._sinks.values(), *self._sources), key=lambda each: not each.listens):
            self._insist(endpoint.open)
        self._enter(SegmentState.LOADED)
        while not self._bind_wanted.is_set():
            self._wait(1.0)
        self._enter(SegmentState.BINDING)
        for each in self._sources:
            self._insist(each.bind)
        self._ready_when_bound()
        self._pump = pump
        if self._drain_s is not None:
            pump.finish(self._drain_s)
        pump.run()

    def _ready_when_bound(self) -> None:
        """A source may have messages to hand over before it can read that it is subscribed."""
        if all(endpoint.connected for endpoint in (*self._sources, *self._sinks.values())):
            self._enter(SegmentState.READY)
        else:
            self._poller.call_later(0.05, self._ready_when_bound)

    def _make_pump(self, loaded: Loaded) -> Pump:
        encoders = {key: sink.encoder for key, sink in self._sinks.items()}
        wiring = Wiring(frozenset(self._sinks), encoders=encoders, suspects=self._suspects)
        for stage, _ in loaded:
            if stage.on_error.queue and (stage.name, stage.on_error.queue) not in self._sinks:
                raise SpecError(
                    f"stage {stage.name}: its on-error queue {stage.on_error.queue} has no sink in the spec"
                )
        graph = StageGraph(loaded, wiring, self._counters, self.taps)
        name, suspects = self.spec.segment, self._suspects
        inlets = [Inlet(source, name, self._letters.keep) for source in self._sources]
        inlets += [Inlet(replay, name, replay.keep, replays=True) for replay in self._replays]
        self._inlets = inlets
        self._note_death(loaded)
        parts = Parts(inlets, self._sinks, graph, self._counters, suspects, self._poller, self.taps)
        return Pump(parts, self.spec.batch)

    def _note_death(self, loaded: Loaded) -> None:
        """The process died while a dead letter was replayed: that is its newest failure."""
        if self._suspects.died_in_letter is None:
            return
        number, place = self._suspects.died_in_letter
        try:
            self._letters.note_death(number, loaded[place][0].name)
        except NotKept as error:
            log.warning(
                "the process died while dead letter %d was replayed, which is not noted: %s", number, error.reason
            )

    def _insist(self, attempt: Callable[[], None]) -> None:
        """Until it works: a broker that is away is waited for, and `reason` says so."""
        delays = Delays()
        while True:
            try:
                attempt()
            except Superseded:
                raise
            except NotConnected as error:
                if self._reason != error.reason:
                    log.warning("%s; trying again", error.reason)
                self._reason = error.reason
                self._wait(delays.next_s())
            else:
                self._reason = ""
                return

    def _wait(self, timeout_s: float) -> None:
        """Serve the connections there are. Raises Drained when asked to end."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._drain_s is not None:
                raise Drained
            left_s = deadline - time.monotonic()
            if left_s <= 0 or (self._bind_wanted.is_set() and self._state is SegmentState.LOADED):
                return
            self._poller.wait(left_s)

    def _enter(self, state: SegmentState) -> None:
        self._state = state
        log.info("%s %s", self.spec.assignment_id, state)


def _connection(end: Endpoint) -> dict[str, Any]:
    return {"queue": end.endpoint.queue, "connected": end.connected, "error": end.error}


def run(path: Path, places: Places, *, bind: bool) -> int:
    """Run the segment in this process until it ends; returns the exit code and leaves `failure.json`."""
    workspace = places.workspace
    for left in (FAILURE, FINISHED):
        (workspace / left).unlink(missing_ok=True)
    try:
        spec = read_spec(path)
    except SpecError as error:
        return ended_by(error, workspace)
    segment = _segment(spec, digest(path.read_bytes()), places)
    _on_signals(lambda _number, _frame: segment.request_drain(DRAIN_S))
    if bind:
        segment.request_bind()
    control = ControlServer(workspace, segment)
    control.start()
    ending = "drained"
    try:
        segment.run()
        if segment.ended:
            ending = finished(segment.status(), spec, workspace)
    except BaseException as error:  # noqa: BLE001 - the last word on any end is written down
        return ended_by(error, workspace)
    finally:
        _on_signals(signal.SIG_IGN)
        control.stop()
        segment.close()
    log.info("%s %s", spec.assignment_id, ending)
    return Exit.DONE


def _segment(spec: SegmentSpec, spec_digest: str, places: Places) -> Segment | ServedSegment:
    if spec.serving is None:
        return Segment(spec, spec_digest, places)
    from fogline.runtimes.serving.segment import ServedSegment  # asyncio costs memory that a stream has no use for

    return ServedSegment(spec, spec.serving, spec_digest, (places.workspace, places.artifacts))


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
