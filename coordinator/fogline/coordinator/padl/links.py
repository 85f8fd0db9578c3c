"""What stages read and write: references, direct links, cycles, and the chain of API mode."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice

from fogline.coordinator.padl.model import Document, Stage
from fogline.coordinator.padl.problems import Problem, error, listed, near_miss, pointer_to, quoted, warning

_CYCLES_SHOWN = 20
_NAMES_SHOWN = 12


@dataclass(frozen=True)
class End:
    """One name in a stage's `queues`."""

    stage: str
    side: str
    """`input` or `output`."""
    name: str
    pointer: str


def ends(document: Document) -> Iterator[End]:
    """Every name that a stage reads or writes, in the order of the document."""
    for name, stage in document.pipeline.items():
        for side, others in (("input", stage.inputs), ("output", stage.outputs)):
            for index, other in enumerate(others):
                keys = ("pipeline", name, "queues", side)
                yield End(name, side, other, pointer_to(*keys, index) if len(others) > 1 else pointer_to(*keys))


def copies(document: Document) -> Iterator[End]:
    """The queues that get a copy of every dead letter."""
    for name, stage in document.pipeline.items():
        if stage.on_error is not None and stage.on_error.queue is not None:
            yield End(name, "output", stage.on_error.queue, pointer_to("pipeline", name, "on-error", "queue"))


def link_problems(document: Document, broken: Set[str]) -> list[Problem]:
    """Everything wrong with the links. Names in `broken` are not judged: their own shape is already wrong."""
    both = set(document.pipeline) & set(document.queues)
    unsure = both | broken
    found = [
        error(
            pointer_to("queues", name),
            f"{quoted(name)} is the name of a stage and of a queue",
            "stages and queues share one name space: rename one of them",
        )
        for name in sorted(both)
    ]
    found += [problem for end in ends(document) if end.name not in unsure for problem in _judged(end, document)]
    found += [problem for end in copies(document) if end.name not in unsure for problem in _copied(end, document)]
    found += _twice(document)
    found += _routes(document) if document.package_mode != "api" else ()
    found += islice(_cycles(document, unsure), _CYCLES_SHOWN)
    found += _api_chain(document, broken) if document.package_mode == "api" else _stream_ends(document)
    return found


def _judged(end: End, document: Document) -> Iterator[Problem]:
    if end.name in document.pipeline:
        yield from _one_sided(end, document.pipeline[end.name])
    elif end.name not in document.queues:
        known = [*document.queues, *document.pipeline]
        message = f"{quoted(end.name)} is neither a queue nor a stage{near_miss(end.name, known)}"
        yield error(end.pointer, message, f"known: {listed(known)}")
    elif document.package_mode == "api":
        message = f"{quoted(end.name)} is a queue, and in API mode stages are linked to stages only"
        yield error(end.pointer, message, 'name the neighbour stage, or set "package-mode": "stream"')


def _copied(end: End, document: Document) -> Iterator[Problem]:
    if end.name in document.queues:
        return
    message = f"{quoted(end.name)} is not a queue{near_miss(end.name, document.queues)}"
    yield error(end.pointer, message, f"known: {listed(document.queues) or 'none'}")


def _one_sided(end: End, other: Stage) -> Iterator[Problem]:
    side, there = ("input", other.inputs) if end.side == "output" else ("output", other.outputs)
    if end.stage in there:
        return
    names = [*there, end.stage]
    line = f'"{side}": {json.dumps(names if there else end.stage)}'
    verb = "writes to" if end.side == "output" else "reads from"
    message = (
        f"stage {quoted(end.stage)} {verb} stage {quoted(end.name)}, "
        f"whose {side} does not name {quoted(end.stage)}: a direct link is declared on both ends"
    )
    yield error(end.pointer, message, f"add {line} to the queues of {quoted(end.name)}")


def _routes(document: Document) -> Iterator[Problem]:
    for name, stage in document.pipeline.items():
        if stage.route is not None and not stage.outputs:
            example = 'for example "queues": {"output": ["english", "other"]}'
            yield error(
                pointer_to("pipeline", name, "route"), f"stage {quoted(name)} routes records but has no output", example
            )


def _twice(document: Document) -> Iterator[Problem]:
    seen: set[tuple[str, str, str]] = set()
    for end in ends(document):
        key = (end.stage, end.side, end.name)
        if key in seen:
            yield error(end.pointer, f"{end.side} names {quoted(end.name)} twice", "name it once")
        seen.add(key)


def _stream_ends(document: Document) -> Iterator[Problem]:
    example = '"queues": {"input": "q1", "output": "q2"}'
    for name, stage in document.pipeline.items():
        place = pointer_to("pipeline", name)
        if not stage.inputs:
            yield error(place, f"stage {quoted(name)} reads nothing: it has no input", f"for example {example}")
        if stage.inputs and not stage.outputs:
            message = f"stage {quoted(name)} has no output: what it returns goes nowhere"
            yield warning(place, message, f"fine for a stage that only acts; otherwise {example}")


def _api_chain(document: Document, broken: Set[str]) -> Iterator[Problem]:
    for name, stage in document.pipeline.items():
        for side, others in (("input", stage.inputs), ("output", stage.outputs)):
            if len(others) > 1:
                place = pointer_to("pipeline", name, "queues", side)
                yield error(place, f"in API mode stages form a chain, but this {side} names {len(others)}")
    first = [name for name, stage in document.pipeline.items() if not stage.inputs]
    if len(first) > 1 and not broken:
        message = f"in API mode stages form one chain, but {listed(first)} all stand at its beginning"
        yield error(pointer_to("pipeline"), message, "link them, or submit them as pipelines of their own")


def _cycles(document: Document, unsure: Set[str]) -> Iterator[Problem]:
    for cycle in _loops(_graph(document, unsure)):
        names = _from_a_stage(cycle, document.pipeline)
        around = " → ".join(names if len(names) <= _NAMES_SHOWN else [*names[:_NAMES_SHOWN], "…"])
        place = pointer_to("pipeline", names[0], "queues", "output")
        yield error(place, f"the pipeline runs in a circle: {around}", "a record never comes back to a stage")


def _graph(document: Document, unsure: Set[str]) -> dict[str, list[str]]:
    """Stage or queue -> those that get its records."""
    graph: dict[str, list[str]] = {name: [] for name in (*document.pipeline, *document.queues)}
    for end in (*ends(document), *copies(document)):
        if end.name in graph and end.name not in unsure and end.stage not in unsure:
            origin, target = (end.name, end.stage) if end.side == "input" else (end.stage, end.name)
            graph[origin].append(target)
    return {origin: list(dict.fromkeys(targets)) for origin, targets in graph.items()}


def _loops(graph: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Each closed path met on one walk through the graph, without its last step back."""
    done: set[str] = set()
    for start in graph:
        path = {} if start in done else {start: iter(graph[start])}
        while path:
            here, todo = next(reversed(path.items()))
            ahead = next(todo, None)
            if ahead is None:
                done.add(here)
                del path[here]
            elif ahead in path:
                steps = list(path)
                yield steps[steps.index(ahead) :]
            elif ahead not in done:
                path[ahead] = iter(graph[ahead])


def _from_a_stage(cycle: list[str], stages: Mapping[str, Stage]) -> list[str]:
    start = next(index for index, name in enumerate(cycle) if name in stages)
    return [*cycle[start:], *cycle[: start + 1]]
