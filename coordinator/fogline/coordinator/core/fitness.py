"""What a node lacks that stages need, whatever else runs there. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fogline.coordinator.core.fleet import OWN, Node
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.model import Document, Stage
from fogline.coordinator.padl.templates import labels_for
from fogline.runtimes.options import PICKLES, SERVING, completed

ALWAYS_THERE = frozenset({"file", "mqtt"})
"""Connectors that need no library: they are Fogline's own."""


def unfit(document: Document, names: Sequence[str], node: Node, *, local: bool) -> str:
    """The first reason why these stages cannot run there together, or nothing. `local`: constraints do not count."""
    stages = [document.pipeline[name] for name in names]
    if why := _lacking_driver(document, stages, node):
        return why
    for stage in stages:
        if not local and (why := _unmet_constraint(stage, node)):
            return why
        if "pickle" in node.refuses and completed(stage.framework, stage.props).get("serializer") in PICKLES:
            return "refuses pickle models: save it as ONNX"
        if node.environments == OWN and (why := _lacking_library(document, stage, node)):
            return why
    wanted = sorted(label for name in names for label in labels_for(document, name) if label not in node.labels)
    return f"has no label {wanted[0]}, which a template of the document asks for" if wanted else ""


def _lacking_driver(document: Document, stages: Sequence[Stage], node: Node) -> str:
    contained = any(document.contains(stage) for stage in stages)
    if contained and "docker" not in node.drivers:
        return "has no container engine, or not the library that talks to it: fogline[docker]"
    if contained and node.environments == OWN:
        return "makes no environments, of which a container needs one: start its agent with --environments store"
    if "process" not in node.drivers and not all(document.contains(stage) for stage in stages):
        return "has no driver for native processes"
    return ""


def _lacking_library(document: Document, stage: Stage, node: Node) -> str:
    """Of the agent's environment, where stages run in that."""
    if stage.framework != "code" and stage.framework not in node.frameworks:
        return f"has no {stage.framework} runtime installed"
    needed = [document.queues[name].connector for name in (*stage.inputs, *stage.outputs) if name in document.queues]
    if lacking := [each for each in needed if each not in ALWAYS_THERE and each not in node.connectors]:
        return f"has no {lacking[0]} connector installed"
    if is_api(document) and SERVING in node.lacks:
        return f"has no HTTP server for API mode installed: fogline[{SERVING}]"
    return ""


def _unmet_constraint(stage: Stage, node: Node) -> str:
    facts = {"layer": node.layer, "os": node.os, "hostname": node.hostname, "architecture": node.architecture}
    for key, wanted in stage.constraints.node.items():
        actual = facts[key] if key in facts else node.labels.get(key)
        if actual != wanted:
            return f"has {key} {actual}, not {wanted}" if actual else f"has no label {key}={wanted}"
    return ""
