"""Templates: `{node.name}`, `{node.layer}` and `{node.label.X}` in the props of queues and in `environment`. Pure.

They stand for what is different at each node, so that one document serves fifty gateways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.problems import Problem, error, pointer_to, quoted

_TEMPLATE = re.compile(r"\{node\.([^{}]*)\}")
_KNOWN = {"name", "layer"}
_LABEL = "label."


def templates_in(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Key -> what its value asks of the node: `name`, `layer`, `label.X`."""
    found = {key: _TEMPLATE.findall(value) for key, value in values.items() if isinstance(value, str)}
    return {key: names for key, names in found.items() if names}


def filled(values: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    """The values for one node. Raises KeyError for a fact that it lacks."""
    return {
        key: _TEMPLATE.sub(lambda match: facts[match[1]], value) if isinstance(value, str) else value
        for key, value in values.items()
    }


def without_templates(value: str) -> str:
    """The text with something harmless in the place of each template, to be checked like any other."""
    return _TEMPLATE.sub("x", value)


def labels_for(document: Document, stage: str) -> set[str]:
    """The labels that a node must have to run the stage."""
    wanted = document.pipeline[stage]
    queues = [document.queues[name] for name in (*wanted.inputs, *wanted.outputs) if name in document.queues]
    values: list[Mapping[str, Any]] = [wanted.environment, *(queue.props for queue in queues)]
    names = [name for each in values for found in templates_in(each).values() for name in found]
    return {name.removeprefix(_LABEL) for name in names if name.startswith(_LABEL)}


def template_problems(document: Document) -> Iterator[Problem]:
    """Templates that ask for what no node has."""
    for name, stage in document.pipeline.items():
        yield from _unknown(pointer_to("pipeline", name, "environment"), stage.environment)
    for name, queue in document.queues.items():
        yield from _unknown(pointer_to("queues", name, "props"), queue.props)


def _unknown(place: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    for key, names in templates_in(values).items():
        for name in names:
            if name not in _KNOWN and not (name.startswith(_LABEL) and len(name) > len(_LABEL)):
                message = f"the template {quoted('{node.' + name + '}')} is not known"
                yield error(place + pointer_to(key), message, "known: {node.name}, {node.layer}, {node.label.X}")
