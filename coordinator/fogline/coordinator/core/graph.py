"""The pipeline as a graph: direct links, groups, order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fogline.coordinator.padl.model import Document

Link = tuple[str, str]
"""(writer, reader): a direct link between two stages."""


def direct_links(document: Document) -> list[Link]:
    """Every link `output: stage` that names a stage, sorted."""
    stages = document.pipeline
    return sorted((name, target) for name, stage in stages.items() for target in stage.outputs if target in stages)


def link_name(link: Link) -> str:
    """The name under which a direct link is shown and tapped."""
    return f"{link[0]}..{link[1]}"


def writers(document: Document, queue: str) -> list[str]:
    """Stages that write the queue, by name."""
    return sorted(name for name, stage in document.pipeline.items() if queue in stage.outputs)


def readers(document: Document, queue: str) -> list[str]:
    """Stages that read the queue, by name."""
    return sorted(name for name, stage in document.pipeline.items() if queue in stage.inputs)


def ends(document: Document) -> dict[str, tuple[list[str], list[str]]]:
    """Of every declared queue its writers and its readers, by name: all at once, for documents of many stages."""
    found: dict[str, tuple[list[str], list[str]]] = {queue: ([], []) for queue in document.queues}
    for name, stage in sorted(document.pipeline.items()):
        for side, queues in enumerate((stage.outputs, stage.inputs)):
            for queue in set(queues) & found.keys():
                found[queue][side].append(name)
    return found


def first_queues(document: Document) -> list[str]:
    """Queues that are read but that no stage of this pipeline writes."""
    return [name for name in sorted(document.queues) if readers(document, name) and not writers(document, name)]


def last_queues(document: Document) -> list[str]:
    """Queues that are written but that no stage of this pipeline reads."""
    return [name for name in sorted(document.queues) if writers(document, name) and not readers(document, name)]


def data_links(document: Document) -> list[Link]:
    """Who hands records to whom, by queue or directly."""
    by_queue = {
        (writer, reader) for writing, reading in ends(document).values() for writer in writing for reader in reading
    }
    return sorted(by_queue | set(direct_links(document)))


def components(names: Iterable[str], links: Iterable[Link]) -> list[tuple[str, ...]]:
    """Connected components, each in topological order (ties by name), sorted by their first stage."""
    neighbours: dict[str, set[str]] = {name: set() for name in names}
    links = list(links)
    for a, b in links:
        neighbours[a].add(b)
        neighbours[b].add(a)
    found, seen = [], set[str]()
    for name in sorted(neighbours):
        if name not in seen:
            members = _reach(name, neighbours)
            seen |= members
            found.append(tuple(topological(members, links)))
    return sorted(found)


def _reach(start: str, neighbours: Mapping[str, set[str]]) -> set[str]:
    reached, open_ends = {start}, [start]
    while open_ends:
        for other in neighbours[open_ends.pop()] - reached:
            reached.add(other)
            open_ends.append(other)
    return reached


def topological(names: Iterable[str], links: Sequence[Link]) -> list[str]:
    """Writers before readers, ties by name. A circle, which segments can form where stages do not, is entered at its
    first name."""
    remaining = set(names)
    inside = [(a, b) for a, b in links if a in remaining and b in remaining]
    order: list[str] = []
    while remaining:
        ready = min(
            (name for name in remaining if not any(b == name and a in remaining for a, b in inside)),
            default=min(remaining),
        )
        order.append(ready)
        remaining.remove(ready)
    return order


def depths(names: Iterable[str], links: Iterable[Link]) -> dict[str, int]:
    """Longest distance of each name from a source: 0 is upstream of everything it feeds."""
    links = list(links)
    depth: dict[str, int] = {}
    for name in topological(names, links):
        depth[name] = max((depth[a] + 1 for a, b in links if b == name and a in depth), default=0)
    return depth
