"""Acknowledged links that lead back to where they come from. Pure.

A segment acknowledges what it read once its own links have: over a circle of them it would wait for itself. A broker
confirms by itself, so a circle with an MQTT queue in it is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fogline.coordinator.core.graph import ends
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.listening import WEBSOCKET
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.problems import Problem, error, pointer_to


def circle_problems(document: Document, segments: Sequence[Segment]) -> Iterator[Problem]:
    """One for each WebSocket queue from whose readers such links lead back to a writer's process."""
    home = {stage: segment.name for segment in segments for stage in segment.stages}
    links: dict[str, set[tuple[str, str]]] = {
        name: {(home[writer], home[reader]) for writer in writing for reader in reading}
        for name, (writing, reading) in sorted(ends(document).items())
        if document.queues[name].connector == WEBSOCKET
    }
    onward: dict[str, set[str]] = {}
    for origin, target in set().union(*links.values()):
        onward.setdefault(origin, set()).add(target)
    for name, pairs in links.items():
        for origin in sorted(origin for origin, target in pairs if origin in _reached(target, onward)):
            message = (
                f"the WebSocket queue {name} leads from segment {origin} back to the same process, which would wait "
                "for its own acknowledgement"
            )
            yield error(pointer_to("queues", name), message, "use an MQTT queue there, or link the stages directly")


def _reached(start: str, onward: dict[str, set[str]]) -> set[str]:
    reached, front = {start}, [start]
    while front:
        for each in onward.get(front.pop(), set()) - reached:
            reached.add(each)
            front.append(each)
    return reached
