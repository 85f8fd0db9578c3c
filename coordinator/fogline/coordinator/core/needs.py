"""What the environment of a segment must hold: the packages its stages ask for, and those they run by. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fogline.coordinator.core.graph import Link, link_name
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.model import Document, Queue
from fogline.runtimes.options import (
    CLIENT_REQUIREMENTS,
    CONNECTOR_REQUIREMENTS,
    FRAMEWORK_REQUIREMENTS,
    RUNTIME_REQUIREMENTS,
    SERVING_REQUIREMENTS,
)


@dataclass(frozen=True, order=True)
class Need:
    """One package that an environment must hold."""

    line: str
    """As PEP 508 writes it: `numpy<2`."""
    by: str
    """Who asks for it, for people: `stage detector`."""
    stage: str = ""
    """The stage it comes in with; empty: every segment needs it."""


def segment_needs(
    document: Document,
    stages: Sequence[str],
    own: Mapping[str, Sequence[str]],
    automatic: Mapping[Link, Queue],
) -> list[Need]:
    """Everything that stages sharing a process need, sorted.

    `own` is what each stage asks for itself, as PEP 508 lines; `automatic` the queues of links that are cut.
    """
    needs = set(needs_without_queues(document, stages, own))
    if is_api(document):
        needs.update(Need(line, "API mode") for line in SERVING_REQUIREMENTS)
    for name in stages:
        stage = document.pipeline[name]
        errors = (stage.on_error.queue if stage.on_error else None) or ""
        for queue in {*stage.inputs, *stage.outputs, errors} & document.queues.keys():
            needs.update(_queue_needs(queue, document.queues[queue], name))
    for link, wire in automatic.items():
        for end in set(link) & set(stages):
            needs.update(_queue_needs(link_name(link), wire, end))
    return sorted(needs)


def needs_without_queues(document: Document, stages: Sequence[str], own: Mapping[str, Sequence[str]]) -> list[Need]:
    """The same for stages that read and write nothing outside their process."""
    needs = {Need(line, "Fogline") for line in RUNTIME_REQUIREMENTS}
    for name in stages:
        framework = document.pipeline[name].framework
        needs.update(Need(line, f"stage {name}", name) for line in own.get(name, ()))
        for line in FRAMEWORK_REQUIREMENTS.get(framework, ()):
            needs.add(Need(line, f"framework {framework} of stage {name}", name))
    return sorted(needs)


def lines_of(needs: Iterable[Need]) -> list[str]:
    """The packages alone, each once, sorted."""
    return sorted({need.line for need in needs})


def requirements_digest(needs: Iterable[Need]) -> str:
    """SHA-256 over the packages, whoever asks for them: equal needs share an environment."""
    return hashlib.sha256("\n".join(lines_of(needs)).encode()).hexdigest()


def _queue_needs(name: str, queue: Queue, stage: str) -> Iterator[Need]:
    usual = CONNECTOR_REQUIREMENTS.get(queue.connector, ())
    for line in CLIENT_REQUIREMENTS.get(str(queue.props.get("client", "")), usual):
        yield Need(line, f"queue {name} ({queue.connector})", stage)
