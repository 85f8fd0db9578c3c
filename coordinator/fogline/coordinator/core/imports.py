"""Taking over what a node runs: for a store that was lost, or restored from an older copy. Pure.

A node that has seen later numbers than the store knows remembers what the store forgot: what it holds is what
was wanted last, so it is wanted again, and nothing is stopped for having been forgotten. Another node may hold
an older copy of the same assignment, one it was never told to end: there the later revision wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fogline.coordinator.core.deployment import Copy, Deployment, Phase
from fogline.coordinator.core.graph import depths
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import Wanted


@dataclass(frozen=True)
class Held:
    """One wish that a node holds, as the node tells it."""

    copy: Copy
    wanted: Wanted
    revision: int
    incarnation: int = 0


def taken_over(
    deployment: Deployment | None, node: str, held: Sequence[Held], labels: Mapping[Copy, int], now_s: float
) -> Deployment | None:
    """The deployment once it is what `node` says it is. `held` holds this pipeline's wishes on the node alone.

    `labels`: the revision that each copy known so far was wanted for. None: nothing of it runs, and nothing was
    known of it.
    """
    running = {
        each.copy.assignment: each
        for each in sorted(held, key=lambda each: each.revision)
        if each.wanted is Wanted.RUNNING
    }
    if deployment is None and not running:
        return None
    d = deployment or Deployment(held[0].copy.assignment.split("/")[0], 0, Phase.RUNNING, now_s)
    base = d.former if d.former and d.phase in {Phase.PREPARING, Phase.DRAINING} else d.target
    if d.phase in {Phase.STOPPED, Phase.FAILED}:
        base = ()
    later = {copy.assignment for copy in base if copy.node != node and _later(copy, running, labels)}
    won = {name: each.copy for name, each in running.items() if name not in later}
    target = (*(copy for copy in base if copy.node != node and copy.assignment not in won), *won.values())
    if not target:
        return d if d.phase in {Phase.STOPPED, Phase.FAILED} else _ended(d, held, now_s)
    known = (*d.target, *d.former, *d.leaving) if base else d.leaving
    leaving = _without(target, (*known, *(each.copy for each in held)))
    revision = max([d.revision, *(running[name].revision for name in won)])
    raised = {name: max(running[name].incarnation, d.incarnations.get(name, 0)) for name in won}
    return replace(
        d, revision=revision, phase=Phase.RUNNING, since_s=now_s, target=tuple(sorted(target)), former=(),
        former_revision=0, leaving=leaving, ready_since_s=None, failure=None, reason="", release=False,
        incarnations={**d.incarnations, **{name: number for name, number in raised.items() if number}},
    )  # fmt: skip


def in_order(copies: Iterable[Copy], specs: Mapping[str, SegmentSpec]) -> tuple[Copy, ...]:
    """The same copies with the depths that their specs, by digest, tell: who reads what another writes is deeper."""
    found = list(copies)
    writes = {(name, copy.segment) for copy in found for name in _written(specs[copy.spec_digest])}
    links = {
        (writer, copy.segment)
        for copy in found
        for name in _read(specs[copy.spec_digest])
        for queue, writer in writes
        if queue == name and writer != copy.segment
    }
    depth = depths({copy.segment for copy in found}, links)
    return tuple(sorted(replace(copy, depth=depth[copy.segment]) for copy in found))


def _written(spec: SegmentSpec) -> set[str]:
    """Queues, and where requests go on, the direct links of its stages."""
    return {sink.queue for sink in spec.sinks} | {each for stage in spec.stages for each in stage.outputs}


def _read(spec: SegmentSpec) -> set[str]:
    return {source.queue for source in spec.sources} | {each for stage in spec.stages for each in stage.inputs}


def _later(copy: Copy, running: Mapping[str, Held], labels: Mapping[Copy, int]) -> bool:
    held = running.get(copy.assignment)
    return held is not None and labels.get(copy, 0) > held.revision


def _ended(d: Deployment, held: Sequence[Held], now_s: float) -> Deployment:
    """All of it was on this node, which holds it no longer: it was stopped."""
    leaving = _without((), (*d.target, *d.former, *d.leaving, *(each.copy for each in held)))
    return replace(
        d, phase=Phase.STOPPED, since_s=now_s, target=d.target, former=(), former_revision=0, leaving=leaving,
        ready_since_s=None, failure=None, reason="nothing of it runs any more",
    )  # fmt: skip


def _without(target: Iterable[Copy], copies: Iterable[Copy]) -> tuple[Copy, ...]:
    staying = set(target)
    return tuple(dict.fromkeys(copy for copy in copies if copy not in staying))
