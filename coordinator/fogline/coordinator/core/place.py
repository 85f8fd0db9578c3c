"""Place: which node runs which stage, and why not every other. Pure and deterministic.

Pins first; an unpinned stage takes the pin of its nearest pinned neighbour if it fits there; the
remaining groups go to the best node that passes every filter: runs there now, fewest cross-node
links, most free capacity, name. The further copies of a stage go to the other nodes that would do, in
turn, but stay where they are; with `replicas: each` there is one on every node that would do if it were connected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fogline.coordinator.core.fitness import unfit
from fogline.coordinator.core.fleet import Node, NodeState
from fogline.coordinator.core.graph import Link, components, data_links, direct_links
from fogline.coordinator.core.ports import Ports
from fogline.coordinator.padl.model import Document, Stage
from fogline.coordinator.padl.problems import Problem

EACH = "each"
_ANY = 2**31


@dataclass(frozen=True)
class PassedOver:
    """A node that was not chosen, and why."""

    node: str
    reason: str


@dataclass
class Placement:
    """The node of every stage that found one, and the reasons behind it."""

    nodes: dict[str, str] = field(default_factory=dict)
    """Of its first copy."""
    copies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The node of each copy, in order."""
    passed_over: dict[str, list[PassedOver]] = field(default_factory=dict)
    """Per stage."""
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Circumstances:
    """What placement knows besides document and fleet."""

    machine_id: str = ""
    """Of the submitter, for `deploy-mode: local`."""
    running: Mapping[str, str] = field(default_factory=dict)
    """Stage -> node where this deployment runs it now, its first copy."""
    copies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Stage -> nodes where this deployment runs its copies now, in order."""
    used_cpus: Mapping[str, float] = field(default_factory=dict)
    """Node -> CPUs asked for by other deployments."""
    used_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    ports: Ports = field(default_factory=Ports)


def place(document: Document, fleet: Sequence[Node], given: Circumstances) -> Placement:
    """Place every stage. Stages that found no node are named in `problems`."""
    fleet = sorted(fleet, key=lambda node: node.name)
    result = Placement()
    if document.deploy_mode == "local":
        _place_local(document, fleet, given, result)
    else:
        _place_remote(document, fleet, given, result)
    for names in _together(document, result):
        copies = _spread(document, names, result.nodes[names[0]], fleet, given)
        result.copies |= {name: copies for name in names if name not in result.copies}
    return result


def _together(document: Document, result: Placement) -> list[tuple[str, ...]]:
    """The placed stages in groups that share a process as far as it is known here: their copies go together."""
    links = [
        (a, b)
        for a, b in direct_links(document)
        if _replicas(document, a) == _replicas(document, b) and result.nodes.get(a) == result.nodes.get(b)
    ]
    return components(list(result.nodes), [link for link in links if link[0] in result.nodes])


def _place_remote(document: Document, fleet: Sequence[Node], given: Circumstances, result: Placement) -> None:
    _place_pinned(document, fleet, given, result)
    # Stages with other numbers of copies cannot share a process: they need not be together.
    links = [(a, b) for a, b in direct_links(document) if _replicas(document, a) == _replicas(document, b)]
    for group in components(document.pipeline, links):
        _follow_neighbours(document, (group, links), fleet, given, result)
        rest = [name for name in group if name not in result.nodes and document.pipeline[name].infra is None]
        for names in components(rest, [link for link in links if link[0] in rest and link[1] in rest]):
            if _replicas(document, names[0]) == EACH:
                _place_each(document, names, fleet, given, result)
            else:
                _place_group(document, names, fleet, given, result)


def _place_each(
    document: Document, names: Sequence[str], fleet: Sequence[Node], given: Circumstances, result: Placement
) -> None:
    """On every node that would do, connected or not: an absent one has its copy when it comes back."""
    refused = {node.name: why for node in fleet if (why := _why_not(document, names, node, given, connected=False))}
    reasons = [PassedOver(name, why) for name, why in refused.items()]
    chosen = tuple(node.name for node in fleet if node.name not in refused)
    if not any(node.state is NodeState.CONNECTED for node in fleet if node.name in chosen):
        absent = [PassedOver(name, "is not connected") for name in chosen]
        result.problems.append(_unplaceable(names[0], [*reasons, *absent]))
        return
    for name in names:
        result.nodes[name], result.copies[name], result.passed_over[name] = chosen[0], chosen, reasons


def admits(document: Document, stages: Sequence[str], node: Node, given: Circumstances) -> bool:
    """Whether a connected node that joined later gets a copy of these stages, which run on each."""
    return not _why_not(document, stages, node, given)


def _spread(
    document: Document, names: Sequence[str], first: str, fleet: Sequence[Node], given: Circumstances
) -> tuple[str, ...]:
    """The nodes of the copies of stages that go together, the first of which is placed: pinned ones stay there."""
    stages = [document.pipeline[name] for name in names]
    count = 1 if stages[0].replicas == EACH else int(stages[0].replicas)
    if count == 1 or document.deploy_mode == "local" or any(stage.infra is not None for stage in stages):
        return (first,) * count
    fitting = [node for node in fleet if not _why_not(document, names, node, given)]
    order = [first, *sorted(node.name for node in fitting if node.name != first)]
    room = {node.name: _room(stages, node, given) for node in fitting}
    held = dict(enumerate(next((given.copies[name] for name in names if name in given.copies), ())))
    chosen = [first]
    for number in range(1, count):
        free = [node for node in order if chosen.count(node) < room.get(node, count)] or order
        stays = held.get(number, "")
        fewest = min(free, key=lambda node: (chosen.count(node), order.index(node)))
        chosen.append(stays if stays in free else fewest)
    return tuple(chosen)


def _room(stages: Sequence[Stage], node: Node, given: Circumstances) -> int:
    """How many copies of the stages together the node has room for."""
    most = _ANY
    if cpus := sum(stage.resources.cpus or 0.0 for stage in stages):
        most = min(most, int((node.cpus - given.used_cpus.get(node.name, 0.0)) // cpus))
    if memory_bytes := sum(stage.resources.memory_bytes or 0 for stage in stages):
        most = min(most, (node.memory_bytes - given.used_memory_bytes.get(node.name, 0)) // memory_bytes)
    return most


def _replicas(document: Document, stage: str) -> int | str:
    return document.pipeline[stage].replicas


def _place_local(document: Document, fleet: Sequence[Node], given: Circumstances, result: Placement) -> None:
    here = [node for node in fleet if node.machine_id and node.machine_id == given.machine_id]
    chosen = next((node for node in here if node.state is NodeState.CONNECTED), None)
    if chosen is None:
        known = ", ".join(node.name for node in fleet) or "none"
        message = f"deploy-mode is local, but no agent of this machine is connected (nodes: {known})"
        hint = "start `fogline-agent run` here, or run the document without a daemon: `coord run`"
        result.problems.append(Problem("error", "/deploy-mode", message, hint))
        return
    for name in document.pipeline:
        why = _why_not(document, [name], chosen, given, local=True)
        result.passed_over[name] = [
            _passed(node, "not the submitter's machine") for node in fleet if node is not chosen
        ]
        if why:
            result.problems.append(_unplaceable(name, [PassedOver(chosen.name, why)]))
        else:
            result.nodes[name] = chosen.name


def _place_pinned(document: Document, fleet: Sequence[Node], given: Circumstances, result: Placement) -> None:
    for name, stage in document.pipeline.items():
        if stage.infra is None:
            continue
        node = _pinned_node(document, name, stage.infra, fleet, result)
        if node is None:
            continue
        result.passed_over[name] = [
            _passed(other, f"{name} is pinned to {node.name}") for other in fleet if other is not node
        ]
        why = _why_not(document, [name], node, given)
        if why:
            message = f"stage {name} is pinned to node {node.name}, which {why}"
            result.problems.append(Problem("error", f"/pipeline/{name}/infra", message))
        else:
            result.nodes[name] = node.name


def _pinned_node(document: Document, stage: str, machine: str, fleet: Sequence[Node], result: Placement) -> Node | None:
    entry = document.infra.get(machine)
    wanted = (entry.hostname if entry else None) or machine
    matches = [node for node in fleet if node.name == wanted] or [node for node in fleet if node.hostname == wanted]
    if len(matches) == 1:
        return matches[0]
    pointer = f"/infra/{machine}/hostname" if entry and entry.hostname else f"/pipeline/{stage}/infra"
    known = ", ".join(node.name for node in fleet) or "none"
    if matches:
        names = ", ".join(node.name for node in matches)
        message = f"{wanted} is the hostname of several nodes ({names})"
        problem = Problem("error", pointer, message, "name one of them instead")
    else:
        start = f"fogline-agent run --name {wanted} --layer edge --coordinator HOST:PORT --state-dir DIR"
        problem = Problem(
            "error", pointer, f"no node {wanted} has joined; known: {known}", f"start one there: `{start}`"
        )
    if problem not in result.problems:
        result.problems.append(problem)
    return None


def _follow_neighbours(
    document: Document,
    joined: tuple[Sequence[str], Sequence[Link]],
    fleet: Sequence[Node],
    given: Circumstances,
    result: Placement,
) -> None:
    """Give an unpinned stage the node of its nearest placed neighbour in the group, breadth first."""
    group, links = joined
    nodes = {node.name: node for node in fleet}
    front = [name for name in group if name in result.nodes]
    while front:
        following: list[str] = []
        for name in front:
            for other in sorted({b if a == name else a for a, b in links if name in (a, b)}):
                stage = document.pipeline[other]
                if other in result.nodes or stage.infra is not None:
                    continue
                node = nodes[result.nodes[name]]
                if not _why_not(document, [other], node, given):
                    result.nodes[other] = node.name
                    reason = f"{other} follows its neighbour {name} to {node.name}"
                    result.passed_over[other] = [_passed(each, reason) for each in fleet if each is not node]
                    following.append(other)
        front = following


def _place_group(
    document: Document, names: Sequence[str], fleet: Sequence[Node], given: Circumstances, result: Placement
) -> None:
    refused = {node.name: why for node in fleet if (why := _why_not(document, names, node, given))}
    fitting = [node for node in fleet if node.name not in refused]
    reasons = [PassedOver(name, why) for name, why in refused.items()]
    if not fitting:
        result.problems.append(_unplaceable(names[0], reasons))
        return
    scored = sorted(fitting, key=lambda node: _score(document, names, node, given, result.nodes))
    chosen = scored[0]
    reasons += [_passed(node, f"would fit, but {chosen.name} scores better") for node in scored[1:]]
    for name in names:
        result.nodes[name] = chosen.name
        result.passed_over[name] = sorted(reasons, key=lambda each: each.node)


def _score(
    document: Document, names: Sequence[str], node: Node, given: Circumstances, placed: Mapping[str, str]
) -> tuple[int, int, float, str]:
    runs_there = sum(given.running.get(name) == node.name for name in names)
    crossing = sum(
        placed.get(b if a in names else a, node.name) != node.name
        for a, b in data_links(document)
        if (a in names) != (b in names)
    )
    free_cpus = node.cpus - given.used_cpus.get(node.name, 0.0)
    return (-runs_there, crossing, -free_cpus, node.name)


def _why_not(
    document: Document,
    names: Sequence[str],
    node: Node,
    given: Circumstances,
    *,
    local: bool = False,
    connected: bool = True,
) -> str:
    """The first reason why `node` cannot run these stages together, or nothing."""
    if connected and node.state is not NodeState.CONNECTED:
        return f"is {node.state}"
    if why := unfit(document, names, node, local=local):
        return why
    return _lacks_room([document.pipeline[name] for name in names], node, given)


def _lacks_room(stages: Sequence[Stage], node: Node, given: Circumstances) -> str:
    cpus = sum(stage.resources.cpus or 0.0 for stage in stages)
    free_cpus = node.cpus - given.used_cpus.get(node.name, 0.0)
    if cpus > free_cpus:
        return f"has {free_cpus:g} CPUs free of the {cpus:g} asked for"
    memory = sum(stage.resources.memory_bytes or 0 for stage in stages)
    free_memory = node.memory_bytes - given.used_memory_bytes.get(node.name, 0)
    if memory > free_memory:
        return f"has {free_memory // 2**20} MiB of memory free of the {memory // 2**20} MiB asked for"
    return ""


def _passed(node: Node, reason: str) -> PassedOver:
    return PassedOver(node.name, f"is {node.state}" if node.state is not NodeState.CONNECTED else reason)


def _unplaceable(stage: str, reasons: Sequence[PassedOver]) -> Problem:
    tried = "; ".join(f"{each.node} {each.reason}" for each in reasons) or "no node has joined"
    return Problem("error", f"/pipeline/{stage}", f"no node can run stage {stage}: {tried}")
