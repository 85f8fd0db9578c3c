"""The segment's stages as one chain: records in, the records that follow from each of them out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from fogline.runtimes.assembly import Loaded
from fogline.runtimes.attempts import Outcome, Work, again, attempt, failure, together
from fogline.runtimes.codecs import Encode, decode_json, encode_json
from fogline.runtimes.counters import Counters, Tally
from fogline.runtimes.errors import Failure
from fogline.runtimes.frameworks.base import Failed, Framework
from fogline.runtimes.message import Item
from fogline.runtimes.routes import Route
from fogline.runtimes.spec import SegmentSpec, SpecError, StageSpec
from fogline.runtimes.taps import Taps

Answer = list[bytes] | Failure
"""The encoded records that follow from one (none: it was filtered), or why there are none."""

REQUEST, RESPONSE = "/request", "/response"
"""The queues that the first stage reads and the last one writes; no document can name them."""


@dataclass(frozen=True)
class _Link:
    """One stage, and what its only output is called."""

    name: str
    work: Work
    output: str
    routes: bool
    """Each result says whether it goes there."""


class Chain:
    """Loaded stages, each the only reader of the one before it.

    What a graph of stages does to a batch (`graph.py`), without what only queues have: branches, letters, ids. The
    caller learns of a failure at once, and decides whether to try again: a record is tried a second time only where it
    failed together with others.
    """

    def __init__(self, loaded: Loaded, counters: Counters, taps: Taps) -> None:
        """Raises SpecError when the stages are no chain."""
        stages = [stage for stage, _ in loaded]
        check_chain(stages)
        self.stages = tuple(stage.name for stage in stages)
        self.first: Framework = loaded[0][1]
        self.last: Framework = loaded[-1][1]
        self.frameworks = [framework for _, framework in loaded]
        self._links = [_link(stage, framework, stage is stages[-1]) for stage, framework in loaded]
        self._counters, self._taps = counters, taps

    def run(self, payloads: Sequence[bytes]) -> list[Answer]:
        """Encoded JSON records through all stages at once; an answer for each, in order."""
        records, origins = list(payloads), list(range(len(payloads)))
        failures: dict[int, Failure] = {}
        tallies: dict[str, Tally] = {}
        for link in self._links:
            if not records:
                break
            self._counters.enter(link.name, len(records))
            outcomes = attempt(link.work, decode_json, records)
            if link.routes or any(type(each) is not list or len(each) != 1 for each in outcomes):
                failures |= _failures(link, records, origins, outcomes)
                tallies[link.name] = _tally(outcomes)
                records, origins = _passed(link, origins, outcomes)
            else:
                tallies[link.name] = Tally(done=len(records), out=len(records))
                records = [encoded for ((encoded,),) in outcomes]  # type: ignore[misc]
            if self._taps.queues:
                self._taps.offer(
                    link.output, [Item(*each) for each in zip(origins, itertools.repeat(""), records, strict=False)]
                )
        answers: list[Answer] = [[] for _ in payloads]
        for origin, record in zip(origins, records, strict=True):
            answers[origin].append(record)  # type: ignore[union-attr]
        for origin, failed in failures.items():
            answers[origin] = failed
        self._counters.settle(tallies)
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


def _link(stage: StageSpec, framework: Framework, last: bool) -> _Link:
    encodes: tuple[Encode | Route, ...] = (encode_json,)
    if stage.route:
        encodes += (Route(stage.route, stage.outputs),)
    return _Link(stage.name, Work(framework, encodes), RESPONSE if last else stage.outputs[0], bool(stage.route))


def _failures(
    link: _Link, records: Sequence[bytes], origins: Sequence[int], outcomes: list[Outcome]
) -> dict[int, Failure]:
    """Those that are left when what failed together was tried again alone, which `outcomes` then says too."""
    found, shared = dict[int, Failure](), together(outcomes)
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Failed):
            final, attempts = again(link.work, decode_json, records[place], outcome, int(id(outcome) in shared))
            outcomes[place] = final
            if isinstance(final, Failed):
                item = Item(origins[place], "", records[place])
                found[item.origin] = failure(link.name, final, item, attempts)
    return found


def _passed(link: _Link, origins: Sequence[int], outcomes: Sequence[Outcome]) -> tuple[list[bytes], list[int]]:
    """What goes on, and the requests' records that it is of."""
    records, places = list[bytes](), list[int]()
    for origin, outcome in zip(origins, outcomes, strict=True):
        if type(outcome) is list:
            for encoded in outcome:
                if not link.routes or link.output in encoded[-1]:
                    records.append(encoded[0])
                    places.append(origin)
    return records, places


def _tally(outcomes: Sequence[Outcome]) -> Tally:
    results = [each for each in outcomes if type(each) is list]
    filtered = results.count([])
    return Tally(len(results) - filtered, filtered, dropped=len(outcomes) - len(results), out=sum(map(len, results)))
