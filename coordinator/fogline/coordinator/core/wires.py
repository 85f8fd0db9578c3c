"""Automatic queues: what joins two stages that are linked directly but cannot be one process. Pure.

Such a queue is a topic `fogline/CLUSTER/PIPELINE/WRITER..READER` of the coordinator's own broker (`--default-broker`),
or else of that of the document's first MQTT queue. Its name holds no revision and no node, so that a successor
finds what its predecessor had not read yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.graph import Link, ends, link_name
from fogline.coordinator.core.split import Cut, Segment
from fogline.coordinator.padl import links
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.files import FILE
from fogline.coordinator.padl.listening import WEBSOCKET
from fogline.coordinator.padl.model import Document, Queue
from fogline.coordinator.padl.problems import Problem, error, pointer_to, warning
from fogline.runtimes.options import LOOPBACK

_OF_THE_QUEUE = {"topic", "format", "metadata", "qos"}
"""Options of a queue that say nothing of its broker."""


@dataclass(frozen=True)
class Wiring:
    """Where automatic queues are made."""

    cluster: str = ""
    broker: Mapping[str, Any] = field(default_factory=dict)
    """`server` and `port` of the default broker; empty: there is none."""


def automatic_queues(document: Document, cuts: Sequence[Cut], wiring: Wiring) -> dict[Link, Queue]:
    """A queue for each cut link; none at all when there is no broker for them."""
    broker = wiring.broker or _first_broker(document)
    if not broker:
        return {}
    return {
        cut.link: Queue(
            connector="mqtt",
            props={**broker, "topic": f"fogline/{wiring.cluster}/{document.id}/{link_name(cut.link)}"},
        )
        for cut in cuts
    }


def wire_problems(
    document: Document, cuts: Sequence[Cut], queues: Mapping[Link, Queue], nodes: Mapping[str, Node]
) -> list[Problem]:
    """Cut links without a queue, and queues on a broker that every machine would look for on itself.

    `nodes` is the node of every stage.
    """
    found = [] if is_api(document) else [_no_broker(cut) for cut in cuts if cut.link not in queues]
    found += _apart(document, queues, nodes)
    return found


def shared_files(document: Document, segments: Sequence[Segment]) -> Iterator[Problem]:
    """Files that two processes would write."""
    of = {stage: segment.name for segment in segments for stage in segment.stages}
    writing: dict[str, set[str]] = {}
    for end in (*links.ends(document), *links.copies(document)):
        if end.side == "output" and end.name in document.queues and document.queues[end.name].connector == FILE:
            writing.setdefault(end.name, set()).add(end.stage)
    for name, stages in writing.items():
        if len({of.get(stage) for stage in stages}) > 1:
            message = f"the file queue {name} is written by {' and '.join(sorted(stages))}, which are not one process"
            hint = "give each its own file, or link these stages to one that writes it"
            yield error(document.written(pointer_to("queues", name)), message, hint)


def _first_broker(document: Document) -> dict[str, Any]:
    for queue in document.queues.values():
        if queue.connector == "mqtt":
            return {key: value for key, value in queue.props.items() if key not in _OF_THE_QUEUE}
    return {}


def _no_broker(cut: Cut) -> Problem:
    writer, reader = cut.link
    return error(
        pointer_to("pipeline", writer, "queues", "output"),
        f"the direct link {writer} -> {reader} cannot stay in one process ({cut.reason}), and there is no broker "
        "for an automatic queue",
        f"start the coordinator with --default-broker mqtt://HOST:PORT, or declare an MQTT queue between {writer} "
        f"and {reader}",
    )


def _apart(document: Document, queues: Mapping[Link, Queue], nodes: Mapping[str, Node]) -> Iterator[Problem]:
    for (writer, reader), queue in sorted(queues.items()):
        yield from _lonely(queue, f"the automatic queue {writer}..{reader}", "/queues", [writer, reader], nodes)
    for name, (writing, reading) in sorted(ends(document).items()):
        queue, pointer = document.queues[name], pointer_to("queues", name)
        yield from _lonely(queue, f"queue {name}", pointer, [*writing, *reading], nodes)


def _lonely(
    queue: Queue, what: str, pointer: str, stages: Sequence[str], nodes: Mapping[str, Node]
) -> Iterator[Problem]:
    server = str(queue.props.get("server", ""))
    at = {nodes[stage].machine_id: nodes[stage].name for stage in stages if stage in nodes}
    if server.startswith(LOOPBACK) and len(at) > 1:
        where = " and ".join(sorted(at.values()))
        sought = "end that listens" if queue.connector == WEBSOCKET else "broker"
        yield warning(
            pointer,
            f"{what} is on {server}, and its stages are on different machines ({where}): each of them looks for "
            f"the {sought} on itself",
            f"name the {sought} by an address that all of them reach",
        )
