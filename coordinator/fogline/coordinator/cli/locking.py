"""Plan a document and lock the environments of its segments: what the coordinator knows no lock for is resolved here,
where the user's index and keys are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fogline.coordinator.artifacts.conflicts import quarrel
from fogline.coordinator.artifacts.lock import Lock
from fogline.coordinator.artifacts.locking import lock_for
from fogline.coordinator.artifacts.pinning import Unresolvable, pins
from fogline.coordinator.artifacts.targets import read_target
from fogline.coordinator.artifacts.wheels import path_of
from fogline.coordinator.cli.client import CALL_S
from fogline.coordinator.cli.documents import Ready, errors
from fogline.coordinator.cli.uploading import Blob, upload_missing
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.needs import Need, requirements_digest, segment_needs
from fogline.coordinator.core.split import Cut
from fogline.coordinator.core.wires import Wiring, automatic_queues
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.model import Queue
from fogline.coordinator.padl.problems import Problem, error, pointer_to
from fogline.runtimes.spec import MEMORY
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.terms import ErrorKind, FoglineError

Tell = Callable[[str], None]
Show = Callable[[operator.PlanReply, Sequence[Problem]], None]
_Key = tuple[str, str]
"""Digest of the requirements, target: what a lock is made for."""
_Place = tuple[str, str]
"""Segment, target."""


@dataclass(frozen=True)
class Settled:
    """A plan, its problems placed in the user's files, and the locks its segments run with."""

    ready: Ready
    reply: operator.PlanReply
    problems: list[Problem]
    locks: list[operator.Lock] = dataclasses.field(default_factory=list)
    unresolved: list[Problem] = dataclasses.field(default_factory=list)
    """Those of the problems that came up after the plan was shown."""

    def request(self) -> operator.SubmitRequest:
        """What submits it."""
        return operator.SubmitRequest(**self.ready.request(), locks=self.locks)


@dataclass(frozen=True)
class _Wish:
    """One segment on one kind of node."""

    segment: operator.PlannedSegment
    target: str
    needs: Sequence[Need]

    @property
    def key(self) -> _Key:
        return requirements_digest(self.needs), self.target

    def lock(self, digest: str = "") -> operator.Lock:
        asked, target = self.key
        return operator.Lock(segment=self.segment.name, target=target, requirements_digest=asked, digest=digest)


class _Apart(Exception):
    """A signal: the plan is to be made anew, with these two in processes of their own."""

    def __init__(self, pair: operator.Incompatible) -> None:
        super().__init__(pair.reason)
        self.pair = pair


@dataclass(frozen=True)
class _Plan:
    """A plan, what it needs locks for, and the digests of those that are known."""

    ready: Ready
    reply: operator.PlanReply
    problems: list[Problem]
    wishes: list[_Wish]
    known: dict[_Key, str]
    images: dict[_Place, operator.Lock] = dataclasses.field(default_factory=dict)
    """What the revision in charge runs in containers from."""


def ask_plan(stub: operator_grpc.OperatorCoordinatorStub, ready: Ready) -> tuple[operator.PlanReply, list[Problem]]:
    """The coordinator's plan, its problems placed in the user's files."""
    reply = stub.Plan(operator.PlanRequest(**ready.request()), timeout=CALL_S)
    found = [
        Problem("error" if each.severity == "error" else "warning", each.pointer, each.message, each.hint)
        for each in reply.problems
    ]
    told = {(each.pointer, each.message) for each in ready.warnings}
    fresh = [each for each in found if (each.pointer, each.message) not in told]
    return reply, [*ready.warnings, *ready.loaded.placed(fresh)]


def settle(
    stub: operator_grpc.OperatorCoordinatorStub,
    ready: Ready,
    *,
    upgrade: bool = False,
    again: bool = False,
    tell: Tell,
    show: Show,
) -> Settled:
    """Plan, and see to it that the coordinator has a lock, with its wheels, for each segment and kind of node.

    Stages whose packages cannot be had together are parted and the plan is made anew; each is shown, without the
    problems that come up afterwards. `upgrade`: resolve although it was resolved before. `again`: else what this
    machine resolved before will do. Raises FoglineError when no index can be reached.
    """
    while True:
        plan = _planned(stub, ready) if upgrade else _remembered(stub, ready)
        ready = plan.ready
        show(plan.reply, plan.problems)
        try:
            unknown = [wish for wish in plan.wishes if wish.key not in plan.known]
            fresh, refused = _resolved(ready, unknown, tell, anew=upgrade or not again)
        except _Apart as apart:
            tell(f"{apart.pair.first} and {apart.pair.second} cannot share an environment: planning again")
            ready = dataclasses.replace(ready, apart=(*ready.apart, apart.pair))
            continue
        if refused:
            refused = ready.loaded.placed(refused)
            return Settled(ready, plan.reply, [*plan.problems, *refused], unresolved=refused)
        _store(stub, plan.wishes, fresh, tell)
        digests = plan.known | {key: lock.digest for key, lock in fresh.items()}
        return Settled(ready, plan.reply, plan.problems, _locks(plan, digests))


def as_known(stub: operator_grpc.OperatorCoordinatorStub, ready: Ready) -> Settled:
    """The same as far as it is known to the coordinator; nothing is resolved."""
    plan = _remembered(stub, ready)
    return Settled(plan.ready, plan.reply, plan.problems, _locks(plan, plan.known))


def _locks(plan: _Plan, digests: Mapping[_Key, str]) -> list[operator.Lock]:
    """A lock for each wish that has one, with the image that was made for the same place before."""
    found = []
    for wish in plan.wishes:
        if wish.key in digests:
            lock = wish.lock(digests[wish.key])
            if former := plan.images.get((lock.segment, lock.target)):
                lock.context, lock.image = former.context, former.image
            found.append(lock)
    return found


def _planned(stub: operator_grpc.OperatorCoordinatorStub, ready: Ready) -> _Plan:
    reply, problems = ask_plan(stub, ready)
    return _Plan(ready, reply, problems, [] if errors(problems) else _wishes(ready, reply), {})


def _remembered(stub: operator_grpc.OperatorCoordinatorStub, ready: Ready) -> _Plan:
    """The plan with the locks that are known, and with those stages apart that were when it was resolved last."""
    plan = _planned(stub, ready)
    if not plan.wishes:
        return plan
    wanted = [wish.lock() for wish in plan.wishes]
    found = stub.FindLocks(operator.FindLocksRequest(id=ready.document.id, wanted=wanted), timeout=CALL_S)
    apart = [each for each in found.apart if each not in ready.apart and _holds(ready, each)]
    if apart:
        return _remembered(stub, dataclasses.replace(ready, apart=(*ready.apart, *apart)))
    known = {(each.requirements_digest, each.target): each.digest for each in found.locks}
    images = {(each.segment, each.target): each for each in found.locks}
    return dataclasses.replace(plan, known=known, images=images)


def _holds(ready: Ready, apart: operator.Incompatible) -> bool:
    """Whether the two still ask for what could not be had together."""
    pair = (apart.first, apart.second)
    return set(pair) <= ready.document.pipeline.keys() and apart.requirements_digest == _asked(ready, pair)


def _asked(ready: Ready, stages: Sequence[str]) -> str:
    return requirements_digest(segment_needs(ready.document, stages, ready.resolved.requirements, {}))


def _wishes(ready: Ready, reply: operator.PlanReply) -> list[_Wish]:
    automatic = cut_queues(ready, reply)
    own = ready.resolved.requirements
    return [
        _Wish(segment, target, segment_needs(ready.document, segment.stages, own, automatic))
        for segment in reply.segments
        for target in segment.targets
    ]


def cut_queues(ready: Ready, reply: operator.PlanReply) -> dict[Link, Queue]:
    """The queues of cut links as the document gives them; a default broker's ask for no more than these."""
    if is_api(ready.document):
        return {}
    cuts = [
        Cut((link.writers[0], link.readers[0]), "")
        for link in reply.links
        if link.name not in ready.document.queues and link.connector != MEMORY
    ]
    return automatic_queues(ready.document, cuts, Wiring())


def _resolved(
    ready: Ready, wishes: Sequence[_Wish], tell: Tell, *, anew: bool
) -> tuple[dict[_Key, Lock], list[Problem]]:
    """A lock for each wish, its wheels in the cache, or what is wrong. Raises _Apart when stages are to be parted."""
    fresh: dict[_Key, Lock] = {}
    refused: list[Problem] = []
    for wish in wishes:
        if wish.key in fresh:
            continue
        try:
            fresh[wish.key] = lock_for(wish.needs, wish.target, tell, anew=anew, what=wish.segment.name)
        except Unresolvable as why:
            _part(ready, wish)
            refused.append(_problem(wish, why))
        except FoglineError as why:
            if why.kind is not ErrorKind.UNPLACEABLE:
                raise
            refused.append(_problem(wish, why))
    return fresh, refused


def _part(ready: Ready, wish: _Wish) -> None:
    """Raises _Apart when two stages of the segment are what cannot be resolved together."""
    target = read_target(wish.target)
    asking = {need.stage for need in wish.needs}
    answers: dict[str, Unresolvable | None] = {}

    def refused(stages: Sequence[str]) -> Unresolvable | None:
        needs = [need for need in wish.needs if not need.stage or need.stage in stages]
        key = requirements_digest(needs)
        if key not in answers:
            try:
                pins(needs, target)
                answers[key] = None
            except Unresolvable as why:
                answers[key] = why
        return answers[key]

    found = quarrel([stage for stage in wish.segment.stages if stage in asking], refused)
    if found and found.pair not in [(each.first, each.second) for each in ready.apart]:
        first, second = found.pair
        asked = _asked(ready, found.pair) if found.alone else ""
        pair = operator.Incompatible(first=first, second=second, reason=found.reason, requirements_digest=asked)
        raise _Apart(pair)


def _problem(wish: _Wish, why: FoglineError) -> Problem:
    about = why.needs if isinstance(why, Unresolvable) else ()
    stage = next((need.stage for need in about if need.stage), wish.segment.stages[0])
    message = f"the packages of {wish.segment.name} cannot be resolved for {wish.target}: {why.sentence}"
    return error(pointer_to("pipeline", stage), message)


def _store(
    stub: operator_grpc.OperatorCoordinatorStub, wishes: Sequence[_Wish], fresh: dict[_Key, Lock], tell: Tell
) -> None:
    """Wheels first, then the locks that name them, then what they were made for."""
    wheels = {wheel.sha256: wheel for lock in fresh.values() for wheel in lock.wheels}
    if not wheels:
        return
    upload_missing(stub, {key: Blob(each.file, path_of(each)) for key, each in wheels.items()}, "wheels", tell)
    locks = {lock.digest: Blob("a lock", lock.to_bytes()) for lock in fresh.values()}
    upload_missing(stub, locks, "locks", tell=lambda _: None)
    for wish in wishes:
        if wish.key in fresh:
            lock = wish.lock(fresh[wish.key].digest)
            stub.KeepLock(operator.KeepLockRequest(lock=lock), timeout=CALL_S)
