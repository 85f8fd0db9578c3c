"""Stages that are Python functions, between queues in memory, with everything a segment has around its pump."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from fogline.runtimes.connectors.memory import MemoryQueue, MemorySink, MemorySource
from fogline.runtimes.counters import Counters
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.graph import StageGraph, Wiring
from fogline.runtimes.inlets import Inlet
from fogline.runtimes.letter_file import LetterFile
from fogline.runtimes.poller import Poller
from fogline.runtimes.pump import Parts, Pump
from fogline.runtimes.replay import ReplaySource
from fogline.runtimes.spec import BatchSpec, EndpointSpec, OnErrorSpec, StageSpec
from fogline.runtimes.suspects import Suspects
from fogline.runtimes.taps import Taps

MAX = 4
STOP = OnErrorSpec(retries=2, then="stop")


class Calls(Framework):
    """A stage that is a Python function; notes the batches it saw."""

    def __init__(self, stage: StageSpec, function: Callable[[Any], list[Any]]) -> None:
        super().__init__(stage, Path())
        self.batches: list[list[Any]] = []
        self._function = function

    def load(self) -> None: ...

    def process(self, records: list[Any]) -> list[Result]:
        self.batches.append(orjson.loads(orjson.dumps(records)))
        return [self._one(record) for record in records]

    def _one(self, record: Any) -> Result:
        try:
            return self._function(record)
        except Exception as error:  # noqa: BLE001 - as every framework does
            return Failed(error)


class Plant:
    """Stages between memory queues. `wires`: (stage, reads, writes, function)."""

    def __init__(
        self,
        *wires: tuple[str, str, str, Callable[[Any], list[Any]]],
        max_wait_s: float = 0.0,
        on_error: OnErrorSpec | Mapping[str, OnErrorSpec] = STOP,
        letters: LetterFile | None = None,
        suspects: Suspects | None = None,
    ) -> None:
        """`on_error`: of every stage, or by stage, the others' as the spec has it. `letters`: without a file
        none can be kept."""
        policies = on_error if isinstance(on_error, Mapping) else {name: on_error for name, *_ in wires}
        self.suspects = Suspects(MAX) if suspects is None else suspects
        self.letters = letters or LetterFile(Path("/nowhere/at all"))
        self.poller = Poller()
        self.taps = Taps()
        self.queues: dict[str, MemoryQueue] = {}
        specs = [
            StageSpec(name, "calls", tuple(r.split()), tuple(w.split()), on_error=policies.get(name, OnErrorSpec()))
            for name, r, w, _ in wires
        ]
        self.frameworks = {spec.name: Calls(spec, function) for spec, (*_, function) in zip(specs, wires, strict=True)}
        self.sources = {q: self._source(q, spec.name) for spec in specs for q in spec.inputs if ".." not in q}
        self.sinks = {(s.name, q): self._sink(q, s.name) for s in specs for q in s.outputs if ".." not in q}
        self.counters = Counters([spec.name for spec in specs])
        stages = [(spec, self.frameworks[spec.name]) for spec in specs]
        for spec in specs:
            if spec.on_error.queue:
                self.sinks[spec.name, spec.on_error.queue] = self._sink(spec.on_error.queue, spec.name)
        graph = StageGraph(stages, Wiring(frozenset(self.sinks), suspects=self.suspects), self.counters, self.taps)
        self.replays = [ReplaySource(each.endpoint, self.poller, self.letters) for each in self.sources.values()]
        inlets = [Inlet(each, "segment", self.letters.keep) for each in self.sources.values()]
        inlets += [Inlet(each, "segment", each.keep, replays=True) for each in self.replays]
        parts = Parts(inlets, self.sinks, graph, self.counters, self.suspects, self.poller, self.taps)
        self.pump = Pump(parts, BatchSpec(MAX, max_wait_s))

    def feed(self, *records: Any, queue: str = "in") -> None:
        """Bytes as they are, anything else as JSON."""
        for record in records:
            self.queues[queue].put(record if isinstance(record, bytes) else orjson.dumps(record))

    def run(self) -> None:
        """Until the input is used up."""
        for source in self.sources.values():
            source.queue.finished = True
        self.pump.run()

    def out(self, queue: str = "out") -> list[Any]:
        """What lies in the queue."""
        return [orjson.loads(payload) for payload in self.queues[queue].payloads]

    def row(self, stage: str) -> dict[str, int]:
        """The counters of a stage that are not 0."""
        return {name: count for name, count in self.counters.snapshot()[stage].items() if count}

    def _source(self, queue: str, stage: str) -> MemorySource:
        source = MemorySource(EndpointSpec(queue, stage, "memory", {}, ""), self.poller, 2 * MAX, self._queue(queue))
        source.open()
        source.bind()
        return source

    def _sink(self, queue: str, stage: str) -> MemorySink:
        return MemorySink(EndpointSpec(queue, stage, "memory", {}, ""), self.poller, self._queue(queue))

    def _queue(self, name: str) -> MemoryQueue:
        return self.queues.setdefault(name, MemoryQueue())
