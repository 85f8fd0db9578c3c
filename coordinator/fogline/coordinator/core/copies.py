"""From the segments of a plan to the copies that run them and the bytes of their specs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fogline.coordinator.core.deployment import Copy, Deployment, Phase
from fogline.coordinator.core.fleet import Node, NodeState
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.locks import Locks
from fogline.coordinator.core.specs import Replica, Source, segment_spec
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.model import Document, Queue
from fogline.runtimes.spec import SegmentSpec, ServingSpec, digest


@dataclass(frozen=True)
class Planned:
    """What copies are made from."""

    document: Document
    segments: Sequence[Segment]
    automatic: Mapping[Link, Queue]
    artifacts: Mapping[str, str]
    """Stage -> digest; it must hold every stage."""
    locks: Locks = field(default_factory=dict)
    servings: Mapping[str, ServingSpec] = field(default_factory=dict)
    """Segment -> how it answers requests, in API mode."""


def copies_of(planned: Planned, cluster: str, fleet: Sequence[Node]) -> tuple[tuple[Copy, ...], dict[str, bytes]]:
    """The copies of every segment, sorted, and each spec by its digest."""
    sources = {name: Source(artifact=digest_) for name, digest_ in planned.artifacts.items()}
    known = {node.name: node for node in fleet}
    copies, blobs = [], {}
    for segment in planned.segments:
        several = segment.each or len(segment.replicas) > 1
        for name, node in segment.replicas:
            host = known.get(node, Node(node))
            facts = facts_of(host) if node in known else {}
            replica = Replica(name, several, facts, serving=planned.servings.get(segment.name))
            if lock := planned.locks.get((segment.name, host.target)):
                context = "" if lock.image else lock.context
                replica = replace(replica, lock=lock.digest, context=context, image=lock.image)
            spec = segment_spec(planned.document, segment, cluster, sources, planned.automatic, replica)
            blob = spec.to_bytes()
            key = digest(blob)
            copies.append(Copy(spec.assignment_id, key, node, segment.name, segment.depth, segment.each))
            blobs[key] = blob
    return tuple(sorted(copies)), blobs


def unlocked(planned: Planned, fleet: Sequence[Node]) -> list[tuple[str, Node]]:
    """Segments without a lock, or an image, for a node that needs one, with that node."""
    known = {node.name: node for node in fleet}
    return [
        (segment.name, known[node])
        for segment in planned.segments
        for _, node in segment.replicas
        if node in known and known[node].target and not _is_resolved(planned, segment, known[node].target)
    ]


def _is_resolved(planned: Planned, segment: Segment, target: str) -> bool:
    lock = planned.locks.get((segment.name, target))
    contained = planned.document.contains(planned.document.pipeline[segment.stages[0]])
    return lock is not None and (not contained or bool(lock.context))


def nodes_of(copies: Iterable[Copy]) -> dict[str, list[str]]:
    """Segment -> the nodes of its copies, in their order."""
    found: dict[str, list[str]] = {}
    for copy in sorted(copies):
        found.setdefault(copy.segment, []).append(copy.node)
    return found


def unserved(deployment: Deployment, fleet: Sequence[Node]) -> list[tuple[Copy, Node]]:
    """Connected nodes without a copy of a segment that has one on each, with another copy of it."""
    patterns = {copy.segment: copy for copy in deployment.target if copy.each}
    if deployment.phase is not Phase.RUNNING or not patterns:
        return []
    served = {(copy.segment, copy.node) for copy in deployment.target}
    there = [node for node in fleet if node.state is NodeState.CONNECTED]
    return [(like, node) for like in patterns.values() for node in there if (like.segment, node.name) not in served]


def joined(
    like: Copy, runs: SegmentSpec, document: Document, artifacts: Mapping[str, str], node: Node, locks: Locks
) -> tuple[Copy, bytes]:
    """The copy for a node that joined later, of a segment that has one on each; `like` is another, which `runs`."""
    stages = tuple(stage.name for stage in runs.stages)
    segment = Segment(like.segment, stages, node.name, like.depth, (node.name,), each=True)
    ends = [end for end in (*runs.sources, *runs.sinks) if end.envelopes]
    automatic = {_link(end.queue): Queue(connector=end.connector, props=dict(end.options)) for end in ends}
    held = {name: artifacts[name] for name in stages if name in artifacts}
    planned = Planned(document, [segment], automatic, held, locks)
    copies, blobs = copies_of(planned, runs.cluster, [node])
    return copies[0], blobs[copies[0].spec_digest]


def _link(name: str) -> Link:
    writer, _, reader = name.partition("..")
    return writer, reader


def facts_of(node: Node) -> dict[str, str]:
    """What templates may ask of a node."""
    labels = {f"label.{key}": value for key, value in node.labels.items()}
    return {"name": node.name, "layer": node.layer, **labels}
