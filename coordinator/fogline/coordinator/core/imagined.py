"""A document split for nodes that nobody has asked: each machine that it names, ready for whatever it wants. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fogline.coordinator.core.fleet import STORE, Node
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.place import Circumstances, place
from fogline.coordinator.core.split import Segment, split
from fogline.coordinator.core.wires import Wiring, automatic_queues
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.model import Constraints, Document, Queue, Resources
from fogline.coordinator.padl.templates import labels_for

ANYWHERE = "anywhere"
"""The node of stages that are free to go anywhere."""


@dataclass(frozen=True)
class Imagined:
    """A document's segments, and the queues of the links that are cut between them."""

    document: Document
    segments: tuple[Segment, ...]
    automatic: Mapping[Link, Queue]


def imagined(document: Document, incompatible: Mapping[Link, str]) -> Imagined:
    """The segments of a document without errors, as its pins, containers and environments part it.

    A real fleet may part it further. `incompatible` are pairs of stages that cannot share a process.
    """
    names = {_node_of(document, stage.infra) for stage in document.pipeline.values() if stage.infra is not None}
    labels = {label: "" for stage in document.pipeline for label in labels_for(document, stage)}
    fleet = [
        Node(name, labels=labels, drivers=("process", "docker"), environments=STORE) for name in names or {ANYWHERE}
    ]
    free = {"constraints": Constraints(), "resources": Resources(), "replicas": 1}
    stages = {name: stage.model_copy(update=free) for name, stage in document.pipeline.items()}
    asked = document.model_copy(update={"pipeline": stages, "deploy_mode": "remote"})
    found = split(document, place(asked, fleet, Circumstances()).nodes, incompatible)
    automatic = {} if is_api(document) else automatic_queues(document, found.cuts, Wiring())
    return Imagined(document, found.segments, automatic)


def _node_of(document: Document, machine: str) -> str:
    entry = document.infra.get(machine)
    return (entry.hostname if entry else None) or machine
