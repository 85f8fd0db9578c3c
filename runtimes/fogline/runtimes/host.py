"""`run`: one segment, from its spec to its exit.

::

    loading --stages loaded, brokers reached--> loaded --bind--> binding --all subscribed--> ready
       |                                          |                 |                          |
       +-------------------drain------------------+-----------------+                       draining
                             v                                                                 v
                           exit 0                          exit 0: all acknowledged; 1: deadline passed
    a stage cannot be loaded: exit 65      a record failed for good: exit 70      superseded: exit 75

A broker that is away never ends the process: the state stays, with the reason, until it is back.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.runtimes import registry
from fogline.runtimes.assembly import Loaded, load_stages, read_spec
from fogline.runtimes.codecs import shown
from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.base import Endpoint, Sink, Source
from fogline.runtimes.control import DRAIN_S, ControlServer
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import NotConnected, RecordFailed, StageUnusable, Superseded
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.graph import SinkKey, StageGraph, Wiring
from fogline.runtimes.logs import log
from fogline.runtimes.poller import Poller
from fogline.runtimes.pump import Parts, Pump, Unfinished
from fogline.runtimes.spec import Exit, SegmentSpec, SegmentState, SpecError, digest
from fogline.runtimes.taps import Taps
from fogline.runtimes.traces import TRACE_LIMIT_BYTES, sentence

FAILURE = "failure.json"
CRASHED = 1


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
        self._counters = Counters([stage.name for stage in spec.stages], places.workspace)
        self._state = SegmentState.LOADING
        self._reason = ""
        self._sources: list[Source] = []
        self._sinks: dict[SinkKey, Sink] = {}
        self._pump: Pump | None = None
        self._bind_wanted = threading.Event()
        self._drain_s: float | None = None

    def run(self) -> None:
        """From loading to the end. Returns when drained.

        Raises StageUnusable, SpecError, RecordFailed, Superseded or Unfinished.
        """
        with contextlib.suppress(Drained):
            self._pump_until_done(load_stages(self.spec, self._artifacts))

    def close(self) -> None:
        """Leave the brokers; unacknowledged messages stay there."""
        for endpoint in (*self._sources, *self._sinks.values()):
            endpoint.close()
        self._poller.close()
        self._counters.close()

    # What other threads may ask -------------------------------------------------------------------

    def request_bind(self) -> None:
        self._bind_wanted.set()
        self._poller.wake()

    def request_drain(self, deadline_s: float) -> None:
        self._drain_s = deadline_s
        if self._pump is not None:
            self._pump.finish(deadline_s)
        self._poller.wake()

    def status(self) -> dict[str, Any]:
        counters, (p50_s, p99_s) = self._counters.snapshot(), self._counters.percentiles()
        progressed_at = self._pump.progressed_at if self._pump is not None else time.monotonic()
        draining = self._drain_s is not None or (self._pump is not None and self._pump.finishing)
        endpoints: list[Endpoint] = [*self._sources, *self._sinks.values()]
        away = [endpoint.error for endpoint in endpoints if endpoint.error]
        return {
            "state": SegmentState.DRAINING if draining else self._state,
            "reason": self._reason or "; ".join(dict.fromkeys(away)),
            "pid": os.getpid(),
            "last_progress_s": round(time.monotonic() - progressed_at, 3),
            "stalled_s": round(max((each.progress.stalled_s for each in self._frameworks), default=0.0), 3),
            "stages": [
                {"name": stage, "counters": counters[stage], "p50_s": p50_s, "p99_s": p99_s} for stage in counters
            ],
            "connections": [
                {"queue": each.endpoint.queue, "connected": each.connected, "error": each.error} for each in endpoints
            ],
        }

    # The way to ready and on ----------------------------------------------------------------------

    def _pump_until_done(self, loaded: Loaded) -> None:
        self._frameworks = [framework for _, framework in loaded]
        window = 2 * self.spec.batch.max_size
        for sink in self.spec.sinks:
            self._sinks[sink.stage, sink.queue] = registry.connector(sink).sink(sink, self._poller)
        for source in self.spec.sources:
            self._sources.append(registry.connector(source).source(source, self._poller, window))
        pump = self._make_pump(loaded)
        for endpoint in (*self._sinks.values(), *self._sources):
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
        formats = {key: str(sink.endpoint.options.get("format", "json")) for key, sink in self._sinks.items()}
        wiring = Wiring(frozenset(self._sinks), formats)
        graph = StageGraph(loaded, wiring, self._counters, self.taps)
        parts = Parts(self._sources, self._sinks, graph, self._counters, self._poller, self.taps)
        return Pump(parts, self.spec.batch)

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


def run(path: Path, places: Places, *, bind: bool) -> int:
    """Run the segment in this process until it ends; returns the exit code and leaves `failure.json`."""
    workspace = places.workspace
    (workspace / FAILURE).unlink(missing_ok=True)
    try:
        spec = read_spec(path)
    except SpecError as error:
        return _ended_by(error, workspace)
    segment = Segment(spec, digest(path.read_bytes()), places)
    _on_signals(lambda _number, _frame: segment.request_drain(DRAIN_S))
    if bind:
        segment.request_bind()
    control = ControlServer(workspace, segment)
    control.start()
    try:
        segment.run()
    except BaseException as error:  # noqa: BLE001 - the last word on any end is written down
        return _ended_by(error, workspace)
    finally:
        _on_signals(signal.SIG_IGN)
        control.stop()
        segment.close()
    log.info("%s drained", spec.assignment_id)
    return Exit.DONE


def _ended_by(error: BaseException, workspace: Path) -> int:
    code, last_words = _last_words(error)
    _write_whole(workspace / FAILURE, last_words)
    log.error("%s", "\n".join(filter(None, (last_words["reason"], last_words["trace"]))))
    return code


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _last_words(error: BaseException) -> tuple[int, dict[str, Any]]:
    match error:
        case RecordFailed(failure=failure):
            record = shown(failure.record)
            return Exit.RECORD_FAILED, _words(failure.stage, failure.reason, failure.trace, record, failure.attempts)
        case StageUnusable(stage=stage, reason=reason, trace=trace):
            return Exit.STAGE_UNUSABLE, _words(stage, reason, trace)
        case SpecError():
            return Exit.BAD_SPEC, _words("", str(error))
        case Superseded(reason=reason):
            return Exit.SUPERSEDED, _words("", reason)
        case Unfinished():
            return CRASHED, _words("", str(error))
        case _:
            return CRASHED, _words("", sentence(error), traceback.format_exc()[-TRACE_LIMIT_BYTES:])


def _words(stage: str, reason: str, trace: str = "", record: str = "", attempts: int = 0) -> dict[str, Any]:
    return {"stage": stage, "reason": reason, "trace": trace, "record": record, "attempts": attempts}


def _write_whole(path: Path, document: dict[str, Any]) -> None:
    """A reader finds the old file, the new one or none, never a half."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document))
    partial.replace(path)
