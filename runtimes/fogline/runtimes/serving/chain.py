"""The segment's stages as one chain: records in, the records that follow from each of them out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from fogline.runtimes.assembly import Loaded
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import Failure
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.graph import DROP, StageGraph, Wiring
from fogline.runtimes.message import Item
from fogline.runtimes.spec import OnErrorSpec, SegmentSpec, SpecError, StageSpec
from fogline.runtimes.taps import Taps

Answer = list[bytes] | Failure
"""The encoded records that follow from one (none: it was filtered), or why there are none."""

REQUEST, RESPONSE = "/request", "/response"
"""The queues that the first stage reads and the last one writes; no document can name them."""
ON_ERROR = OnErrorSpec(retries=0, then=DROP)
"""The caller learns of it at once, and decides whether to try again."""


class Chain:
    """Loaded stages, each the only reader of the one before it."""

    def __init__(self, loaded: Loaded, counters: Counters, taps: Taps) -> None:
        """Raises SpecError when the stages are no chain."""
        stages = [stage for stage, _ in loaded]
        check_chain(stages)
        self.stages = tuple(stage.name for stage in stages)
        self.first: Framework = loaded[0][1]
        self.last: Framework = loaded[-1][1]
        self.frameworks = [framework for _, framework in loaded]
        adapted = [(_adapted(stage, stage is stages[-1]), framework) for stage, framework in loaded]
        self._exit = (stages[-1].name, RESPONSE)
        self._graph = StageGraph(adapted, Wiring(frozenset({self._exit})), counters, taps)
        self._counters = counters

    def run(self, payloads: Sequence[bytes]) -> list[Answer]:
        """Encoded JSON records through all stages at once; an answer for each, in order."""
        flow = self._graph.run({self.stages[0]: [Item(place, "", each) for place, each in enumerate(payloads)]})
        answers: list[Answer] = [[] for _ in payloads]
        for item in flow.outputs.get(self._exit, ()):
            answers[item.origin].append(item.payload)  # type: ignore[union-attr]
        for origin, failure in flow.dropped.items():
            answers[origin] = failure
        self._counters.settle(flow.tallies)
        return answers


def opened(spec: SegmentSpec) -> SegmentSpec:
    """A served segment as one between two queues, for a trial of its stages."""
    if spec.serving is None or not spec.stages:
        return spec
    stages = list(spec.stages)
    stages[0] = dataclasses.replace(stages[0], inputs=(REQUEST,))
    stages[-1] = dataclasses.replace(stages[-1], outputs=(RESPONSE,))
    return dataclasses.replace(spec, stages=tuple(stages))


def check_chain(stages: Sequence[StageSpec]) -> None:
    """Raises SpecError when they are none."""
    for before, after in itertools.pairwise(stages):
        if len(before.outputs) != 1 or after.inputs != before.outputs:
            raise SpecError(
                f"stage {after.name} does not read all that {before.name} writes: in API mode stages form a chain"
            )
    if stages[-1].route:
        raise SpecError(f"stage {stages[-1].name}: the last stage of a chain has nothing to route to")


def _adapted(stage: StageSpec, last: bool) -> StageSpec:
    return dataclasses.replace(stage, on_error=ON_ERROR, outputs=(RESPONSE,) if last else stage.outputs)
