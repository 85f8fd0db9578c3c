"""The stages of a segment as a small graph, and what a batch becomes on its way through it.

Stages run in topological order, each once per batch, on everything that reached it. A record between
two stages is encoded, exactly as on a queue. A record that fails is tried again alone, from a fresh
copy; when it failed for good, the batch ends in front of its message: what belongs to later messages is
left out, so that everything before it can be sent and acknowledged and it is the first to come again.
(Dead letters will hook in where `Flow.failure` is set: take the message out instead of stopping.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fogline.runtimes.codecs import Decode, Encode, codec, decode_json
from fogline.runtimes.counters import Counters, Tally
from fogline.runtimes.errors import BadMessage, Failure
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.message import Item
from fogline.runtimes.spec import StageSpec
from fogline.runtimes.taps import Taps
from fogline.runtimes.traces import sentence, user_trace

ATTEMPTS = 3

Outcome = list[tuple[bytes, ...]] | Failed
"""The encoded records that follow from one record, in each of the stage's formats, or why there are none."""
SinkKey = tuple[str, str]
"""Stage and queue: two stages that write one queue are two writers."""


@dataclass
class _Output:
    """One output queue of a stage: who reads it here, or that it leaves."""

    queue: str
    format_index: int
    readers: tuple[str, ...]


@dataclass
class _Node:
    name: str
    framework: Framework
    encodes: tuple[Encode, ...]
    outputs: tuple[_Output, ...]


@dataclass
class _Step:
    """What one stage did, kept until it is known how far the batch got."""

    stage: str
    items: list[Item]
    outcomes: list[Outcome]


@dataclass
class Flow:
    """What one batch became: per writer what to send, per stage what to count, and where it failed."""

    outputs: dict[SinkKey, list[Item]] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    failure: Failure | None = None


@dataclass(frozen=True)
class Wiring:
    """What the graph must know of the world outside it."""

    leaving: frozenset[SinkKey]
    """(stage, queue) with a sink. Any other output is read inside, or by nobody."""
    output_formats: Mapping[SinkKey, str] = field(default_factory=dict)


class StageGraph:
    """Loaded stages, ready for batches. `stages` are in topological order."""

    def __init__(
        self, stages: Sequence[tuple[StageSpec, Framework]], wiring: Wiring, counters: Counters, taps: Taps
    ) -> None:
        specs = [spec for spec, _ in stages]
        self._nodes = [_node(spec, framework, specs, wiring) for spec, framework in stages]
        self._leaving = wiring.leaving
        self._counters = counters
        self._taps = taps

    def run(self, entries: Mapping[str, list[Item]], decode: Decode = decode_json) -> Flow:
        """Everything that follows from these records. `entries`: stage -> what reaches it from outside,
        in the format that `decode` reads; between stages it is always JSON."""
        inboxes = dict(entries)
        flow, steps = Flow(), list[_Step]()
        for node in self._nodes:
            items = _before(flow.failure, inboxes.pop(node.name, []))
            if items:
                self._counters.enter(node.name, len(items))
                outside = decode if node.name in entries else decode_json
                outcomes = self._outcomes(node, outside, items, flow)
                steps.append(_Step(node.name, items, outcomes))
                self._pass_on(node, items, outcomes, inboxes, flow)
        if flow.failure is not None:
            flow.outputs = {key: _before(flow.failure, items) for key, items in flow.outputs.items()}
        flow.tallies = {step.stage: _tally(step, flow.failure) for step in steps}
        return flow

    def _outcomes(self, node: _Node, decode: Decode, items: list[Item], flow: Flow) -> list[Outcome]:
        outcomes = _attempt(node, decode, [item.payload for item in items])
        for index, outcome in enumerate(outcomes):
            if type(outcome) is not list and not _after(flow.failure, items[index]):
                final, attempts = _again(node, decode, items[index], outcome)
                outcomes[index] = final
                if isinstance(final, Failed):
                    flow.failure = _failure(node.name, final.error, items[index], attempts)
        return outcomes

    def _pass_on(
        self,
        node: _Node,
        items: list[Item],
        outcomes: list[Outcome],
        inboxes: dict[str, list[Item]],
        flow: Flow,
    ) -> None:
        for output in node.outputs:
            index = output.format_index
            passed = [
                Item(item.origin, f"{item.id}/{node.name}/{number}", encoded[index])
                for item, outcome in zip(items, outcomes, strict=True)
                if type(outcome) is list
                for number, encoded in enumerate(outcome)
            ]
            if self._taps.queues:
                self._taps.offer(output.queue, passed)
            if (node.name, output.queue) in self._leaving:
                flow.outputs.setdefault((node.name, output.queue), []).extend(passed)
            for reader in output.readers:
                inboxes.setdefault(reader, []).extend(passed)


class _Undecodable(Failed):
    """Failed before any user code: another attempt would meet the same bytes."""


def _again(node: _Node, decode: Decode, item: Item, first: Outcome) -> tuple[Outcome, int]:
    """The other attempts, alone, and how many there were in all."""
    attempts, outcome = 1, first
    while attempts < ATTEMPTS and isinstance(outcome, Failed) and not isinstance(outcome, _Undecodable):
        attempts += 1
        (outcome,) = _attempt(node, decode, [item.payload])
    return outcome, attempts


def _failure(stage: str, error: BaseException, item: Item, attempts: int) -> Failure:
    if isinstance(error, BadMessage):
        reason, trace = error.reason, ""
    else:
        reason, trace = sentence(error), user_trace(error)
    return Failure(stage, reason, trace, item.payload, attempts, item.origin)


def _attempt(node: _Node, decode: Decode, payloads: list[bytes]) -> list[Outcome]:
    """Decode, process and encode once. The common case, where all is well, has no bookkeeping."""
    try:
        records: list[Any] = list(map(decode, payloads))
        places: Sequence[int] = range(len(payloads))
        outcomes: list[Any] = [None] * len(payloads)
    except BadMessage:
        records, places, outcomes = _decode_each(decode, payloads)
    results = _processed(node.framework, records) if records else []
    for place, result in zip(places, results, strict=True):
        outcomes[place] = _encoded(node.encodes, result) if type(result) is list else result
    return outcomes


def _processed(framework: Framework, records: list[Any]) -> list[Result]:
    framework.progress.tick()
    try:
        return framework.process(records)
    finally:
        framework.progress.leave()


def _decode_each(decode: Decode, payloads: list[bytes]) -> tuple[list[Any], list[int], list[Any]]:
    records, places, outcomes = list[Any](), list[int](), list[Any]()
    for index, payload in enumerate(payloads):
        try:
            records.append(decode(payload))
            places.append(index)
            outcomes.append(None)
        except BadMessage as error:
            outcomes.append(_Undecodable(error))
    return records, places, outcomes


def _encoded(encodes: tuple[Encode, ...], records: Any) -> Outcome:
    try:
        return [tuple([encode(record) for encode in encodes]) for record in records]
    except BadMessage as error:
        return Failed(error)


def _tally(step: _Step, failure: Failure | None) -> Tally:
    outcomes = [outcome for item, outcome in zip(step.items, step.outcomes, strict=True) if not _after(failure, item)]
    records = [outcome for outcome in outcomes if type(outcome) is list]
    filtered = records.count([])
    return Tally(len(records) - filtered, filtered, sum(map(len, records)))


def _after(failure: Failure | None, item: Item) -> bool:
    """The item belongs to the failed message or a later one."""
    return failure is not None and item.origin >= failure.origin


def _before(failure: Failure | None, items: list[Item]) -> list[Item]:
    return items if failure is None else [item for item in items if not _after(failure, item)]


def _node(spec: StageSpec, framework: Framework, stages: Sequence[StageSpec], wiring: Wiring) -> _Node:
    formats = list[str]()
    outputs = list[_Output]()
    for queue in spec.outputs:
        key = (spec.name, queue)
        name = wiring.output_formats.get(key, "json")
        if name not in formats:
            formats.append(name)
        inside = key not in wiring.leaving
        readers = tuple(each.name for each in stages if inside and queue in each.inputs)
        outputs.append(_Output(queue, formats.index(name), readers))
    encodes = tuple(codec(name)[1] for name in formats)
    return _Node(spec.name, framework, encodes, tuple(outputs))
