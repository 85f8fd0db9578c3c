"""Protocol messages to the core's values and back; the only module that knows both."""

from __future__ import annotations

from fogline.agent.config import Config
from fogline.agent.core.desired import Assignment, Desired
from fogline.agent.core.observed import CopySeen, Observation
from fogline.agent.host.facts import Facts
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire.terms import CopyState, ErrorKind, FoglineError, Wanted

_STATE_NAME: dict[CopyState, str] = {
    each: f"COPY_STATE_{each.name}" for each in CopyState if each is not CopyState.UNKNOWN
}
_WANTED: dict[int, Wanted] = {common.Wanted.Value(f"WANTED_{each.name}"): each for each in Wanted}


def desired(message: agent.DesiredState) -> Desired:
    """A snapshot as reconcile wants it. Raises FoglineError for a wish this release does not know."""
    assignments = tuple(_assignment(each) for each in message.assignments)
    return Desired(message.cluster_id, message.epoch, message.generation, assignments)


def holdings(held: Desired, part_bytes: int) -> list[agent.DesiredState]:
    """A snapshot as its coordinator would have sent it, in parts of about `part_bytes`; at least one."""
    groups: list[list[agent.Assignment]] = [[]]
    filled_bytes = 0
    for wish in held.assignments:
        if groups[-1] and filled_bytes + len(wish.spec) > part_bytes:
            groups.append([])
            filled_bytes = 0
        groups[-1].append(_wish(wish))
        filled_bytes += len(wish.spec)
    return [
        agent.DesiredState(cluster_id=held.cluster_id, epoch=held.epoch, generation=held.generation, assignments=group)
        for group in groups
    ]


def observation(seen: Observation) -> agent.Observation:
    """Every copy of the node."""
    copies = [_copy(each) for each in seen.copies]
    return agent.Observation(copies=copies, epoch=seen.epoch, generation=seen.generation)


def node_facts(config: Config, facts: Facts) -> common.NodeFacts:
    """What the node is: what its operator said and what was found."""
    return common.NodeFacts(
        name=config.name,
        layer=config.layer,
        labels=dict(config.labels),
        hostname=facts.hostname,
        machine_id=facts.machine_id,
        boot_id=facts.boot_id,
        architecture=facts.architecture,
        os=facts.os,
        python=facts.python,
        drivers=facts.drivers,
        cpus=facts.cpus,
        memory_bytes=facts.memory_bytes,
        disk_bytes=facts.disk_bytes,
        address=facts.address,
        frameworks=facts.frameworks,
        connectors=facts.connectors,
        libc=facts.libc,
        environments=config.environments,
        refuses=config.refuses,
        first_port=config.ports[0],
        last_port=config.ports[1],
        tls=facts.tls,
        lacks=facts.lacks,
    )


def _assignment(message: agent.Assignment) -> Assignment:
    wanted = _WANTED.get(message.wanted)
    if wanted is None:
        sentence = f"the coordinator wants {message.wanted} of {message.id}, which this release does not know"
        raise FoglineError(ErrorKind.VERSION_MISMATCH, f"{sentence}: upgrade this node")
    return Assignment(
        id=message.id,
        spec_digest=message.spec_digest,
        spec=message.spec,
        wanted=wanted,
        bind=message.bind,
        revision=message.revision,
        drain_s=message.drain_s,
        release=message.release,
        release_readers=tuple(message.release_readers),
        incarnation=message.incarnation,
    )


def _wish(wish: Assignment) -> agent.Assignment:
    return agent.Assignment(
        id=wish.id,
        spec_digest=wish.spec_digest,
        spec=wish.spec,
        wanted=common.Wanted.Value(f"WANTED_{wish.wanted.name}"),
        bind=wish.bind,
        revision=wish.revision,
        drain_s=wish.drain_s,
        release=wish.release,
        release_readers=wish.release_readers,
        incarnation=wish.incarnation,
    )


def _copy(seen: CopySeen) -> common.CopyObserved:
    stages = [
        common.StageObserved(
            name=each.name,
            counters=dict(each.counters),
            p50_s=each.p50_s,
            p99_s=each.p99_s,
            readings=[
                common.ReadingObserved(queue=one.queue, lag=one.lag, oldest_s=one.oldest_s) for one in each.readings
            ],
            rate=each.rate,
            requests=each.requests,
            errors=each.errors,
        )
        for each in seen.stages
    ]
    return common.CopyObserved(
        assignment=seen.key.assignment,
        spec_digest=seen.key.spec_digest,
        state=common.CopyState.Value(_STATE_NAME[seen.state]),
        reason=seen.reason,
        pid=seen.pid,
        restarts=seen.restarts,
        stages=stages,
        progress=seen.progress,
        incarnation=seen.incarnation,
        last_lines=seen.last_lines,
    )
