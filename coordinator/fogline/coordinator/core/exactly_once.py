"""Exactly once: which segments commit their outputs and offsets together, and what stands in the way. Pure.

`guarantee: exactly-once` on a queue is a wish to the segment that writes it. It can be kept where everything that the
segment reads and writes is in one Kafka cluster: outputs and the offsets of what they were made of then become
visible together, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fogline.coordinator.core.graph import Link, link_name
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.model import Document, Queue
from fogline.coordinator.padl.problems import Problem, error, pointer_to
from fogline.runtimes.options import CONNECTORS, defaults

EXACTLY_ONCE = "exactly-once"


def is_exact(document: Document, segment: Segment) -> bool:
    """Whether the segment writes a queue that asks for it."""
    return any(_asks(document.queues[name]) for name in _written(document, segment) if name in document.queues)


def exactly_once_problems(
    document: Document, segments: Sequence[Segment], automatic: Mapping[Link, Queue]
) -> Iterator[Problem]:
    """Of every segment that cannot keep what its queue asks for, the first end that is in the way."""
    for segment in segments:
        asking = [each for each in _written(document, segment) if each in document.queues]
        asking = [each for each in asking if _asks(document.queues[each])]
        ends = _ends(document, segment, automatic)
        if asking and (wrong := [each for each in ends if _place(ends[each]) != _place(document.queues[asking[0]])]):
            yield error(
                pointer_to("queues", asking[0], "guarantee"),
                f"queue {asking[0]} cannot be exactly once: the segment of {', '.join(segment.stages)} also uses "
                f"{wrong[0]}, which is not in the same Kafka cluster",
                'use "guarantee": "at-least-once", or read and write only queues at one Kafka server',
            )


def _asks(queue: Queue) -> bool:
    return queue.guarantee == EXACTLY_ONCE


def _written(document: Document, segment: Segment) -> list[str]:
    """Outputs of the segment's stages, and the queues that get copies of dead letters."""
    names = list[str]()
    for name in segment.stages:
        stage = document.pipeline[name]
        names += stage.outputs
        names += [stage.on_error.queue] if stage.on_error and stage.on_error.queue else []
    return names


def _ends(document: Document, segment: Segment, automatic: Mapping[Link, Queue]) -> dict[str, Queue]:
    """Every queue that the segment reads or writes, declared or automatic."""
    names = [*_written(document, segment), *(each for s in segment.stages for each in document.pipeline[s].inputs)]
    found = {name: document.queues[name] for name in names if name in document.queues}
    return found | {link_name(link): queue for link, queue in automatic.items() if set(link) & set(segment.stages)}


def _place(queue: Queue) -> tuple[object, ...]:
    props = defaults(CONNECTORS.get(queue.connector) or (), queue.props)
    return queue.connector, props.get("server"), props.get("port")
