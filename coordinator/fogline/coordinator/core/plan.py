"""The plan: what a document becomes on this fleet, or all the reasons why it cannot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.graph import Link, direct_links, ends, link_name
from fogline.coordinator.core.place import Circumstances, PassedOver, place
from fogline.coordinator.core.split import Cut, Segment, split
from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.check import check
from fogline.coordinator.padl.model import Document, Queue
from fogline.coordinator.padl.problems import Problem

QUEUE_GUARANTEE = "at least once, as long as the broker keeps what it acknowledged"
MEMORY_GUARANTEE = "at least once: the segment's input is acknowledged after its output"


@dataclass(frozen=True)
class PlannedLink:
    """A wire of the pipeline: a declared queue or a link in memory."""

    name: str
    connector: str
    address: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    guarantee: str


@dataclass(frozen=True)
class Plan:
    """Segments with their nodes, links with their guarantees, and everything that is wrong."""

    id: str
    segments: tuple[Segment, ...] = ()
    links: tuple[PlannedLink, ...] = ()
    passed_over: Mapping[str, Sequence[PassedOver]] = field(default_factory=dict)
    """Segment -> nodes that were not chosen for it."""
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> list[Problem]:
        """The problems that forbid a submit."""
        return [problem for problem in self.problems if problem.severity == "error"]


def plan(document: Document, fleet: Sequence[Node], given: Circumstances, incompatible: Mapping[Link, str]) -> Plan:
    """Check, place and split `document`. Never raises for what the document says."""
    problems = check(document)
    if any(problem.severity == "error" for problem in problems):
        return Plan(document.id, problems=tuple(problems))
    problems += unavailable(document)
    placement = place(document, fleet, given)
    problems += placement.problems
    result = split(document, placement.nodes, incompatible)
    if not placement.problems:
        problems += [_cut_problem(cut) for cut in result.cuts]
    passed = {each.name: placement.passed_over.get(each.name, []) for each in result.segments}
    return Plan(document.id, result.segments, tuple(_links(document)), passed, tuple(problems))


def _cut_problem(cut: Cut) -> Problem:
    writer, reader = cut.link
    return Problem(
        "error",
        f"/pipeline/{writer}/queues/output",
        f"the direct link {writer} -> {reader} cannot stay in one process ({cut.reason}), "
        "and automatic queues between processes are not available yet",
        f"declare a queue between {writer} and {reader}, or give both the same machine",
    )


def _links(document: Document) -> list[PlannedLink]:
    around = ends(document)
    declared = [
        PlannedLink(name, queue.connector, queue_address(queue), tuple(writing), tuple(reading), QUEUE_GUARANTEE)
        for name, queue in sorted(document.queues.items())
        for writing, reading in [around[name]]
    ]
    direct = [
        PlannedLink(link_name(link), "memory", "", (link[0],), (link[1],), MEMORY_GUARANTEE)
        for link in direct_links(document)
    ]
    return declared + direct


def queue_address(queue: Queue) -> str:
    """Where a queue is, for people: `mqtt://localhost:1883/plant/raw`."""
    server, port, topic = (queue.props.get(key, "") for key in ("server", "port", "topic"))
    place_of = f"{server}:{port}" if port else f"{server}"
    return f"{queue.connector}://{place_of}/{topic}"
