"""Split: stages on one node joined by direct links become one segment. Pure and deterministic.

A direct link is cut where its ends land on different nodes or cannot share a process; of two stages that
cannot share one but are fused by others, the later is cut off. A cut link becomes an automatic queue
(`core/wires.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fogline.coordinator.core.graph import Link, components, data_links, depths, direct_links
from fogline.coordinator.padl.model import Document, Stage


@dataclass(frozen=True)
class Segment:
    """One process to be: its stages in topological order, named after the first."""

    name: str
    stages: tuple[str, ...]
    node: str
    """Of its first copy."""
    depth: int
    """0 reads from outside; a segment that reads what another writes lies deeper. Orders drain and bind."""
    nodes: tuple[str, ...] = ()
    """Of each copy, in order; empty where nobody asked for copies."""
    each: bool = False
    """One copy on every admitted node, named after it."""

    @property
    def replicas(self) -> list[tuple[str, str]]:
        """Name and node of each copy."""
        nodes = self.nodes or (self.node,)
        return [(node if self.each else str(number), node) for number, node in enumerate(nodes)]


@dataclass(frozen=True, order=True)
class Cut:
    """A direct link whose ends cannot be one process, and why."""

    link: Link
    reason: str


@dataclass(frozen=True)
class Split:
    """What split found; segments sorted by depth, then name."""

    segments: tuple[Segment, ...]
    cuts: tuple[Cut, ...]


def split(
    document: Document,
    nodes: Mapping[str, str],
    incompatible: Mapping[Link, str],
    copies: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Split:
    """Segments of `document`, given the node of every stage, and of all its copies where it has more than one.

    `incompatible` holds pairs (either order) that the submitter found unable to share a process.
    """
    links = direct_links(document)
    cuts = [Cut(link, why) for link in links if (why := _why_cut(document, link, nodes, incompatible))]
    kept = set(links) - {cut.link for cut in cuts}
    for pair, reason in sorted(incompatible.items()):
        group = next((each for each in components(document.pipeline, kept) if set(pair) <= set(each)), ())
        later = max(pair, key=group.index) if group else ""
        apart = sorted(link for link in kept if link[1] == later)
        cuts += [Cut(link, reason) for link in apart]
        kept -= set(apart)
    groups = components(document.pipeline, kept)
    owner = {stage: group[0] for group in groups for stage in group}
    between = {(owner[a], owner[b]) for a, b in data_links(document) if owner[a] != owner[b]}
    depth = depths([group[0] for group in groups], between)
    segments = [
        Segment(
            group[0],
            group,
            nodes.get(group[0], ""),
            depth[group[0]],
            tuple(copies.get(group[0], ())),
            document.pipeline[group[0]].replicas == "each",
        )
        for group in groups
    ]
    return Split(tuple(sorted(segments, key=lambda each: (each.depth, each.name))), tuple(sorted(cuts)))


def _why_cut(document: Document, link: Link, nodes: Mapping[str, str], incompatible: Mapping[Link, str]) -> str:
    writer, reader = (document.pipeline[name] for name in link)
    node_a, node_b = (nodes.get(name, "") for name in link)
    if node_a != node_b:
        return f"{link[0]} runs on {node_a or 'no node'}, {link[1]} on {node_b or 'no node'}"
    for key, a, b in _process_traits(document, writer, reader):
        if a != b:
            return f"{link[0]} and {link[1]} differ in `{key}`"
    return incompatible.get(link) or incompatible.get((link[1], link[0]), "")


def _process_traits(document: Document, a: Stage, b: Stage) -> list[tuple[str, object, object]]:
    return [
        ("containerized", document.contains(a), document.contains(b)),
        ("replicas", a.replicas, b.replicas),
        ("restart", a.restart, b.restart),
        ("environment", a.environment, b.environment),
    ]
