"""The stages of a segment as a small graph, and what a batch becomes on its way through it.

Stages run in topological order, each once per batch, on everything that reached it. A record between
two stages is encoded, exactly as on a queue. A record that fails is tried again alone, from a fresh
copy; when it failed for good, its stage's `on-error` decides:

- `dead-letter`: the **input message** it came from is a dead letter. Nothing that was made of that message is
  sent, and what is left of it goes no further: a replay sends all of it.
- `drop`: the record is gone, and nothing else of its message.
- `stop`: the batch ends in front of its message: what belongs to that and later messages is left out, so that
  everything before it can be sent and acknowledged and it is the first to come again.

A record counts once at each stage it entered, as a failure only at the stage that failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fogline.runtimes.attempts import Outcome, Work, again, attempt, failure, together
from fogline.runtimes.codecs import Decode, Encode, codec, decode_json
from fogline.runtimes.counters import Counters, Tally
from fogline.runtimes.errors import Failure
from fogline.runtimes.frameworks.base import Failed, Framework
from fogline.runtimes.message import Item
from fogline.runtimes.routes import Route
from fogline.runtimes.spec import OnErrorSpec, StageSpec
from fogline.runtimes.suspects import Suspects
from fogline.runtimes.taps import Taps

SinkKey = tuple[str, str]
"""Stage and queue: two stages that write one queue are two writers."""
DEAD_LETTER, DROP, STOP = "dead-letter", "drop", "stop"


@dataclass
class _Output:
    """One output queue of a stage: who reads it here, or that it leaves."""

    queue: str
    format_index: int
    readers: tuple[str, ...]


@dataclass
class _Node:
    place: int
    name: str
    work: Work
    outputs: tuple[_Output, ...]
    routes: bool
    """Each result says which outputs it goes to; else it goes to all."""
    on_error: OnErrorSpec
    read_inside: bool


@dataclass
class _Step:
    """What one stage did, kept until it is known what became of every message."""

    node: _Node
    items: list[Item]
    outcomes: list[Outcome]


@dataclass
class Flow:
    """What one batch became. Origins are places of input messages in the batch."""

    outputs: dict[SinkKey, list[Item]] = field(default_factory=dict)
    """Per writer what to send."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """Per stage what to count."""
    letters: dict[int, Failure] = field(default_factory=dict)
    """The messages that are dead letters."""
    dropped: dict[int, Failure] = field(default_factory=dict)
    """The messages that a record was dropped of, the last one's failure."""
    copies: dict[SinkKey, set[int]] = field(default_factory=dict)
    """Per writer the messages that go to a queue of `on-error`, as they came."""
    failure: Failure | None = None
    """Stop in front of this one's message."""

    def live(self, items: list[Item]) -> list[Item]:
        """Those of the items that are sent: none of dead letters, nor from the message to stop in front of on."""
        if not self.letters and self.failure is None:
            return items
        return [item for item in items if not self.lost(item.origin)]

    def lost(self, origin: int) -> bool:
        """Whether nothing of the message at `origin` is sent: a dead letter, or beyond the stop."""
        return origin in self.letters or self.beyond(origin)

    def beyond(self, origin: int) -> bool:
        """Whether the message at `origin` is the one to stop in front of, or a later one."""
        return self.failure is not None and origin >= self.failure.origin

    def fail(self, failed: Failure, on_error: OnErrorSpec) -> None:
        """A record failed for good: enter it as `on_error` says."""
        if on_error.then == STOP:
            self.failure = failed
            return
        (self.dropped if on_error.then == DROP else self.letters)[failed.origin] = failed
        if on_error.queue:
            self.copies.setdefault((failed.stage, on_error.queue), set()).add(failed.origin)

    def settle(self) -> None:
        """Take what is not sent out of `outputs`, and letters beyond the stop."""
        self.outputs = {key: self.live(items) for key, items in self.outputs.items()}
        self.letters = {origin: each for origin, each in self.letters.items() if not self.beyond(origin)}
        self.copies = {key: {o for o in origins if not self.beyond(o)} for key, origins in self.copies.items()}


@dataclass(frozen=True)
class Wiring:
    """What the graph must know of the world outside it."""

    leaving: frozenset[SinkKey]
    """(stage, queue) with a sink. Any other output is read inside, or by nobody."""
    output_formats: Mapping[SinkKey, str] = field(default_factory=dict)
    encoders: Mapping[SinkKey, Encode] = field(default_factory=dict)
    """Of the sinks that bring their own; the others encode as `output_formats` says."""
    suspects: Suspects | None = None
    """Is told which stage runs."""


class StageGraph:
    """Loaded stages, ready for batches. `stages` are in topological order."""

    def __init__(
        self, stages: Sequence[tuple[StageSpec, Framework]], wiring: Wiring, counters: Counters, taps: Taps
    ) -> None:
        specs = [spec for spec, _ in stages]
        self._nodes = [_node(place, spec, framework, specs, wiring) for place, (spec, framework) in enumerate(stages)]
        self._wiring = wiring
        self._counters = counters
        self._taps = taps

    def run(self, entries: Mapping[str, list[Item]], decode: Decode = decode_json, *, keep: bool = False) -> Flow:
        """Everything that follows from these records. `entries`: stage -> what reaches it from outside,
        in the format that `decode` reads; between stages it is always JSON. `keep`: they are dead letters
        already, and stay that when they fail, whatever `on-error` says."""
        inboxes = dict(entries)
        flow, steps = Flow(), list[_Step]()
        for node in self._nodes:
            items = flow.live(inboxes.pop(node.name, []))
            if items:
                self._counters.enter(node.name, len(items))
                if self._wiring.suspects is not None:
                    self._wiring.suspects.at(node.place)
                step = _Step(node, items, [])
                self._carry_out(step, decode if node.name in entries else decode_json, flow, keep)
                self._pass_on(step, inboxes, flow)
                steps.append(step)
        if flow.letters or flow.failure is not None:
            flow.settle()
        flow.tallies = {step.node.name: _tally(step, flow, keep) for step in steps}
        return flow

    def condemned(self, item: Item, place: int, attempts: int) -> Flow:
        """What becomes of a message that killed the process in the stage at `place`, without another attempt."""
        node, flow = self._nodes[place], Flow()
        reason = f"the process died while this record was in it (attempt {attempts})"
        flow.fail(Failure(node.name, reason, "", item.payload, attempts, item.origin), node.on_error)
        self._counters.enter(node.name, 1)
        if flow.failure is None:
            flow.tallies[node.name] = Tally(dead_lettered=len(flow.letters), dropped=len(flow.dropped))
        return flow

    def retries(self, place: int) -> int:
        """Of the stage at this place."""
        return self._nodes[place].on_error.retries

    def _carry_out(self, step: _Step, decode: Decode, flow: Flow, keep: bool) -> None:
        node = step.node
        on_error = _kept(node.on_error) if keep else node.on_error
        step.outcomes = attempt(node.work, decode, [item.payload for item in step.items])
        shared = together(step.outcomes)
        for index, outcome in enumerate(step.outcomes):
            item = step.items[index]
            if isinstance(outcome, Failed) and not flow.lost(item.origin):
                retries = max(1, on_error.retries) if id(outcome) in shared else on_error.retries
                final, attempts = again(node.work, decode, item.payload, outcome, retries)
                step.outcomes[index] = final
                if isinstance(final, Failed):
                    flow.fail(failure(node.name, final, item, attempts), on_error)

    def _pass_on(self, step: _Step, inboxes: dict[str, list[Item]], flow: Flow) -> None:
        node = step.node
        for output in node.outputs:
            index = output.format_index
            passed = [
                Item(item.origin, f"{item.id}/{node.name}/{number}", encoded[index], item.carried)
                for item, outcome in zip(step.items, step.outcomes, strict=True)
                if type(outcome) is list
                for number, encoded in enumerate(outcome)
                if not node.routes or output.queue in encoded[-1]
            ]
            if self._taps.queues:
                self._taps.offer(output.queue, passed)
            if (node.name, output.queue) in self._wiring.leaving:
                flow.outputs.setdefault((node.name, output.queue), []).extend(passed)
            for reader in output.readers:
                inboxes.setdefault(reader, []).extend(passed)


def _tally(step: _Step, flow: Flow, keep: bool) -> Tally:
    outcomes = step.outcomes
    if flow.failure is not None:
        outcomes = [each for item, each in zip(step.items, step.outcomes, strict=True) if not flow.beyond(item.origin)]
    records = [outcome for outcome in outcomes if type(outcome) is list]
    filtered, failed = records.count([]), len(outcomes) - len(records)
    tally = Tally(len(records) - filtered, filtered, out=sum(map(len, records)))
    if failed and step.node.on_error.then == DROP and not keep:
        tally.dropped = failed
    else:
        tally.dead_lettered = failed
    if flow.letters and not step.node.read_inside:  # what is not sent did not go out
        pairs = zip(step.items, step.outcomes, strict=True)
        tally.out -= sum(len(each) for item, each in pairs if type(each) is list and item.origin in flow.letters)
    return tally


def _kept(on_error: OnErrorSpec) -> OnErrorSpec:
    return dataclasses.replace(on_error, then=DEAD_LETTER, queue="")


def _node(place: int, spec: StageSpec, framework: Framework, stages: Sequence[StageSpec], wiring: Wiring) -> _Node:
    encodes = list[Encode]()
    outputs = list[_Output]()
    for queue in spec.outputs:
        key = (spec.name, queue)
        encode = wiring.encoders.get(key) or codec(wiring.output_formats.get(key, "json"))[1]
        if encode not in encodes:
            encodes.append(encode)
        inside = key not in wiring.leaving
        readers = tuple(each.name for each in stages if inside and queue in each.inputs)
        outputs.append(_Output(queue, encodes.index(encode), readers))
    route = (Route(spec.route, spec.outputs),) if spec.route else ()
    work = Work(framework, (*encodes, *route))
    read_inside = any(each.readers for each in outputs)
    return _Node(place, spec.name, work, tuple(outputs), bool(route), spec.on_error, read_inside)
