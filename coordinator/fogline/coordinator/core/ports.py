"""Where the segments of a pipeline in API mode listen, and which goes on where another ends. Pure.

A port is one of its machine's, since several nodes may be on one. It is what the document wishes, else the one that
the segment has on that node already, else the lowest of the node's range that no other deployment has there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.split import Cut, Segment
from fogline.coordinator.padl.endpoint import endpoint_props, first_stage, is_api
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.problems import Problem, error, listed, pointer_to, warning
from fogline.runtimes.options import LOOPBACK
from fogline.runtimes.spec import ServingSpec

HTTP = "http"
"""What a hop is called among the connectors of a plan."""


@dataclass(frozen=True)
class Ports:
    """The ports that deployments have now, running or not."""

    own: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Segment of the planned deployment -> its node and port."""
    others: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Machine -> port -> the other deployment that has it."""


@dataclass(frozen=True)
class Door:
    """Where a segment takes requests."""

    node: Node
    port: int
    tls: bool = False

    @property
    def host(self) -> str:
        """The address that it listens at; empty: every one of its machine."""
        return self.node.address if self.node.address.startswith(LOOPBACK) else ""

    @property
    def address(self) -> str:
        """The address that others reach it by."""
        return self.node.address or self.node.hostname or self.node.name

    @property
    def url(self) -> str:
        """Where others reach it."""
        return url_of(self.address, self.port, tls=self.tls)


def url_of(address: str, port: int, *, tls: bool = False) -> str:
    """`http://10.0.0.7:31000`, with `tls` https."""
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if tls else 'http'}://{host}:{port}"


def machine_of(node: Node) -> str:
    """What nodes on one machine have in common."""
    return node.machine_id or node.name


def doors(
    document: Document, segments: Sequence[Segment], nodes: Mapping[str, Node], ports: Ports
) -> tuple[dict[str, Door], list[Problem]]:
    """Segment -> where it listens, and why one cannot. Nothing at all in stream mode.

    `nodes` by name; every segment must have one.
    """
    if not is_api(document):
        return {}, []
    found: dict[str, Door] = {}
    problems: list[Problem] = []
    taken = {machine: dict(given) for machine, given in ports.others.items()}
    wish = endpoint_props(document.pipeline[first_stage(document)]).get("port")
    for segment in sorted(segments, key=lambda each: (each.depth > 0, not _kept(each, ports), each.depth, each.name)):
        node = nodes[segment.node]
        there = taken.setdefault(machine_of(node), {})
        port = wish if segment.depth == 0 and wish else _kept(segment, ports)
        if port in there and segment.depth == 0 and wish:
            problems.append(_wanted_twice(document, segment, node, port, there[port]))
        elif port is None or port in there:
            port = next((each for each in range(node.first_port, node.last_port + 1) if each not in there), None)
        if port is None:
            problems.append(_none_left(segment, node, there))
        else:
            there[port] = document.id
            found[segment.name] = Door(node, port, node.tls)
    return found, problems


def serving_specs(document: Document, segments: Sequence[Segment], found: Mapping[str, Door]) -> dict[str, ServingSpec]:
    """Segment -> how it serves: by `found`, with the token of the endpoint, and the URL of the one that goes on."""
    home = {stage: segment.name for segment in segments for stage in segment.stages}
    token = endpoint_props(document.pipeline[first_stage(document)]).get("token", {}) if found else {}
    specs = {}
    for segment in segments:
        if door := found.get(segment.name):
            onward = [home[each] for each in document.pipeline[segment.stages[-1]].outputs if each in home]
            there = found.get(onward[0]) if onward else None
            name = f"segment {onward[0]} on {there.node.name}" if there else ""
            forward = there.url if there else ""
            secret = str(token.get("secret", ""))
            specs[segment.name] = ServingSpec(
                door.host,
                door.port,
                document.id,
                secret,
                forward=forward,
                onward=name,
                node=segment.node,
                tls_name=door.address if door.tls else "",
            )
    return specs


def door_problems(
    document: Document, segments: Sequence[Segment], cuts: Sequence[Cut], found: Mapping[str, Door]
) -> Iterator[Problem]:
    """A hop that cannot be made, and an endpoint that anybody may call."""
    home = {stage: segment.name for segment in segments for stage in segment.stages}
    for cut in cuts:
        here, there = (found.get(home[stage]) for stage in cut.link)
        if here and there and there.host and machine_of(here.node) != machine_of(there.node):
            yield _out_of_reach(cut.link, here.node, there.node)
    if found:
        yield from _for_all_the_world(document, segments, found)


def _for_all_the_world(document: Document, segments: Sequence[Segment], found: Mapping[str, Door]) -> Iterator[Problem]:
    """An endpoint that anybody may call, or that tells everybody what it is told."""
    first = first_stage(document)
    place = pointer_to("pipeline", first, "props")
    open_ = [found[each.name] for each in segments if each.name in found and not found[each.name].host]
    if "auth" not in endpoint_props(document.pipeline[first]):
        for door in open_[:1]:
            message = f"{door.url} listens beyond this machine's loopback address, and anybody who reaches it may call"
            hint = f'add "auth": "token" and "token": {{"secret": NAME}} to the props of {first}'
            yield warning(place, message, hint)
        return
    for door in [each for each in open_ if not each.tls][:1]:
        message = f"{door.url} takes the token, and all records, in plain sight of the network"
        hint = (
            f"give node {door.node.name} a certificate (STATE_DIR/tls/certificate.pem, key.pem) and restart its agent"
        )
        yield warning(place, message, hint)


def _kept(segment: Segment, ports: Ports) -> int | None:
    node, port = ports.own.get(segment.name, ("", None))
    return port if node == segment.node else None


def _wanted_twice(document: Document, segment: Segment, node: Node, port: int, other: str) -> Problem:
    message = f"pipeline {document.id} wants port {port} of node {node.name}, which pipeline {other} has"
    hint = f"name another port, or none for one of {node.first_port}-{node.last_port}"
    return error(pointer_to("pipeline", segment.stages[0], "props", "port"), message, hint)


def _none_left(segment: Segment, node: Node, there: Mapping[int, str]) -> Problem:
    holders = sorted({other for port, other in there.items() if node.first_port <= port <= node.last_port})
    message = (
        f"segment {segment.name} needs a port of node {node.name}, and of {node.first_port}-{node.last_port} none is "
        f"left: they are taken by {listed(holders)}"
    )
    hint = "delete one of these, or start the node's agent with more --ports"
    return error(pointer_to("pipeline", segment.stages[0]), message, hint)


def _out_of_reach(link: Link, here: Node, there: Node) -> Problem:
    message = (
        f"{link[0]} on {here.name} cannot hand its records to {link[1]}: node {there.name} is known by its loopback "
        f"address {there.address}, which is on another machine"
    )
    hint = f"start the agent of {there.name} with --address, the one that {here.name} reaches it at"
    return error(pointer_to("pipeline", link[1]), message, hint)
