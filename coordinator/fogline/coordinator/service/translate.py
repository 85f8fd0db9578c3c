"""Protobuf <-> core values; the only importer of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fogline.coordinator.core.deployment import Copy, Seen, Want
from fogline.coordinator.core.fleet import FIRST_PORT, LAST_PORT, OWN, Node, NodeState
from fogline.coordinator.core.imports import Held
from fogline.coordinator.core.locks import KnownLock, Parted
from fogline.coordinator.core.place import PassedOver
from fogline.coordinator.core.plan import Plan
from fogline.coordinator.padl.problems import Problem
from fogline.runtimes.spec import HealthSpec
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.terms import CopyState, Wanted

MOST_PASSED_OVER, FEWEST_PASSED_OVER = 5000, 3
"""Reasons a plan tells in all, and at least for each segment; some 100 bytes each."""

_STATES: Mapping[int, CopyState] = {
    common.CopyState.Value(f"COPY_STATE_{each.name}"): each for each in CopyState if each is not CopyState.UNKNOWN
}

_WANTED = {each: common.Wanted.Value(f"WANTED_{each.name}") for each in Wanted}


def node(facts: common.NodeFacts, state: NodeState) -> Node:
    """A node as placement sees it."""
    return Node(
        name=facts.name,
        layer=facts.layer,
        labels=dict(facts.labels),
        hostname=facts.hostname,
        machine_id=facts.machine_id,
        os=facts.os,
        architecture=facts.architecture,
        cpus=facts.cpus,
        memory_bytes=facts.memory_bytes,
        drivers=tuple(facts.drivers),
        frameworks=tuple(facts.frameworks),
        connectors=tuple(facts.connectors),
        python=facts.python,
        libc=facts.libc,
        environments=facts.environments or OWN,
        refuses=tuple(facts.refuses),
        address=facts.address,
        first_port=facts.first_port or FIRST_PORT,
        last_port=facts.last_port or LAST_PORT,
        tls=facts.tls,
        lacks=tuple(facts.lacks),
        state=state,
    )


def seen(observed: common.CopyObserved, connected: bool, health: HealthSpec) -> Seen:
    """What a node said of a copy; a state of a newer agent is unknown."""
    return Seen(
        _STATES.get(observed.state, CopyState.UNKNOWN),
        observed.reason,
        observed.restarts,
        connected,
        observed.progress,
        observed.incarnation,
        health,
    )


def assignment(copy: Copy, want: Want, spec: bytes, revision: int, drain_s: float) -> agent.Assignment:
    """One line of a node's desired state."""
    return agent.Assignment(
        id=copy.assignment,
        spec_digest=copy.spec_digest,
        spec=spec,
        wanted=_WANTED[want.wanted],
        bind=want.bind,
        revision=revision,
        drain_s=drain_s,
        release=want.release,
        release_readers=want.readers,
        incarnation=want.incarnation,
    )


def held(message: agent.Assignment, node: str) -> Held:
    """A wish as the node that holds it tells it. Its depth is not known yet."""
    _, segment, replica, _ = message.id.split("/")
    copy = Copy(message.id, message.spec_digest, node, segment, 0, each=replica == node)
    wanted = next((each for each, number in _WANTED.items() if number == message.wanted), Wanted.STOPPED)
    return Held(copy, wanted, message.revision, message.incarnation)


def known_lock(message: operator.Lock) -> KnownLock:
    """A lock as it comes with a submit."""
    return KnownLock(
        message.segment, message.target, message.requirements_digest, message.digest, message.context, message.image
    )


def parted(message: operator.Incompatible) -> Parted:
    """Stages that were parted for their packages, as they come with a submit."""
    return Parted(message.first, message.second, message.reason, message.requirements_digest)


def problems(found: Iterable[Problem]) -> list[operator.Problem]:
    """Problems without file and line, which only the submitter knows."""
    return [
        operator.Problem(severity=each.severity, pointer=each.pointer, message=each.message, hint=each.hint)
        for each in found
    ]


def _passed_over(passed: Sequence[PassedOver], shown: int) -> list[operator.PassedOver]:
    told = [operator.PassedOver(node=each.node, reason=each.reason) for each in passed[:shown]]
    if len(passed) > shown:
        rest = operator.PassedOver(node=f"{len(passed) - shown} more nodes", reason="are left out of so long a plan")
        told.append(rest)
    return told


def plan_reply(plan: Plan) -> operator.PlanReply:
    """A plan for the client to show. It must fit into one message, also with a thousand stages on a thousand nodes."""
    shown = max(FEWEST_PASSED_OVER, MOST_PASSED_OVER // max(1, len(plan.segments)))
    return operator.PlanReply(
        id=plan.id,
        segments=[
            operator.PlannedSegment(
                name=segment.name,
                stages=segment.stages,
                node=segment.node,
                nodes=[node for _, node in segment.replicas],
                passed_over=_passed_over(plan.passed_over.get(segment.name, ()), shown),
                targets=plan.targets.get(segment.name, ()),
            )
            for segment in plan.segments
        ],
        links=[
            operator.PlannedLink(
                name=link.name,
                connector=link.connector,
                address=link.address,
                writers=link.writers,
                readers=link.readers,
                guarantee=link.guarantee,
            )
            for link in plan.links
        ],
        problems=problems(plan.problems),
    )
