"""The plan: what a document becomes on this fleet, or all the reasons why it cannot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fogline.coordinator.core.circles import circle_problems
from fogline.coordinator.core.exactly_once import exactly_once_problems
from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.graph import Link, direct_links, ends, link_name
from fogline.coordinator.core.guarantees import HOP_GUARANTEE, MEMORY_GUARANTEE, QUEUE_GUARANTEE, guarantee
from fogline.coordinator.core.place import Circumstances, PassedOver, Placement, place
from fogline.coordinator.core.ports import HTTP, Door, door_problems, doors, serving_specs
from fogline.coordinator.core.split import Cut, Segment, Split, split
from fogline.coordinator.core.wires import Wiring, automatic_queues, shared_files, wire_problems
from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.check import check
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.files import FILE
from fogline.coordinator.padl.listening import WEBSOCKET
from fogline.coordinator.padl.model import Document, Queue
from fogline.coordinator.padl.problems import Problem
from fogline.runtimes.spec import ServingSpec

ENDPOINT = "endpoint"
"""The name that a plan has for the way in, in API mode."""


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
    automatic: Mapping[Link, Queue] = field(default_factory=dict)
    """The queues of the direct links that are cut."""
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Segment -> the kinds of its nodes that need a lock, sorted."""
    servings: Mapping[str, ServingSpec] = field(default_factory=dict)
    """Segment -> how it answers requests, in API mode."""

    @property
    def errors(self) -> list[Problem]:
        """The problems that forbid a submit."""
        return [problem for problem in self.problems if problem.severity == "error"]


def plan(
    document: Document,
    fleet: Sequence[Node],
    given: Circumstances,
    incompatible: Mapping[Link, str],
    wiring: Wiring,
) -> Plan:
    """Check, place and split `document`. Never raises for what the document says."""
    problems = check(document)
    if any(problem.severity == "error" for problem in problems):
        return Plan(document.id, problems=tuple(problems))
    problems += unavailable(document)
    placement = place(document, fleet, given)
    problems += placement.problems
    result = split(document, placement.nodes, incompatible, placement.copies)
    problems += circle_problems(document, result.segments)
    automatic = {} if is_api(document) else automatic_queues(document, result.cuts, wiring)
    known = {node.name: node for node in fleet}
    found: Mapping[str, Door] = {}
    if not placement.problems:
        found, unserved = doors(document, result.segments, known, given.ports)
        problems += unserved
        problems += door_problems(document, result.segments, result.cuts, found)
        where = {stage: known[node] for stage, node in placement.nodes.items()}
        problems += wire_problems(document, result.cuts, automatic, where)
        problems += exactly_once_problems(document, result.segments, automatic)
        problems += shared_files(document, result.segments)
    passed = {each.name: _passed_over(placement, each) for each in result.segments}
    links = (*_hops(result, found), *_links(document, result.cuts, automatic))
    targets = {each.name: _targets(each, known) for each in result.segments}
    servings = serving_specs(document, result.segments, found)
    return Plan(document.id, result.segments, links, passed, tuple(problems), automatic, targets, servings)


def _targets(segment: Segment, known: Mapping[str, Node]) -> list[str]:
    """An absent node's too: its copy is to be there when it comes back."""
    return sorted({known[node].target for _, node in segment.replicas if node in known} - {""})


def _passed_over(placement: Placement, segment: Segment) -> list[PassedOver]:
    """The nodes that got no copy either."""
    return [each for each in placement.passed_over.get(segment.name, []) if each.node not in segment.nodes]


def _hops(found: Split, there: Mapping[str, Door]) -> list[PlannedLink]:
    """The endpoint, and each link from one process to the next, in API mode."""
    home = {stage: segment.name for segment in found.segments for stage in segment.stages}
    depth = {stage: segment.depth for segment in found.segments for stage in segment.stages}
    first = [segment for segment in found.segments if segment.name in there and not segment.depth]
    endpoint = [
        PlannedLink(ENDPOINT, HTTP, there[each.name].url, (), (each.stages[0],), HOP_GUARANTEE) for each in first
    ]
    return endpoint + [
        PlannedLink(
            link_name(cut.link),
            HTTP,
            there[home[cut.link[1]]].url,
            (cut.link[0],),
            (cut.link[1],),
            f"{HOP_GUARANTEE}; a hop, since {cut.reason}",
        )
        for cut in sorted(found.cuts, key=lambda each: depth[each.link[0]])
        if home[cut.link[1]] in there
    ]


def _links(document: Document, cuts: Sequence[Cut], automatic: Mapping[Link, Queue]) -> list[PlannedLink]:
    around = ends(document)
    declared = [
        PlannedLink(
            name,
            queue.connector,
            queue_address(queue),
            tuple(writing),
            tuple(reading),
            guarantee(queue, written=bool(writing), read=bool(reading)),
        )
        for name, queue in sorted(document.queues.items())
        for writing, reading in [around[name]]
    ]
    direct = [
        PlannedLink(link_name(link), "memory", "", (link[0],), (link[1],), MEMORY_GUARANTEE)
        for link in direct_links(document)
        if link not in {each.link for each in cuts}
    ]
    cut = [
        PlannedLink(
            link_name(each.link),
            automatic[each.link].connector,
            queue_address(automatic[each.link]),
            (each.link[0],),
            (each.link[1],),
            f"{QUEUE_GUARANTEE}; automatic, since {each.reason}",
        )
        for each in cuts
        if each.link in automatic
    ]
    return declared + direct + cut


def queue_address(queue: Queue) -> str:
    """Where a queue is, for people: `mqtt://localhost:1883/plant/raw`."""
    if queue.connector == FILE:
        return f"file://{queue.props.get('path', '')}"
    server, port, topic = (queue.props.get(key, "") for key in ("server", "port", "topic"))
    place_of = f"{server}:{port}" if port else f"{server}"
    scheme = "ws" if queue.connector == WEBSOCKET else queue.connector
    return f"{scheme}://{place_of}/{topic}"
