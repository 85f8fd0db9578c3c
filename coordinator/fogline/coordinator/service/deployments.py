"""Deployments in motion: take submits and stops, turn the pure reconcile, keep what it says, tell the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fogline.coordinator.core.copies import Planned, copies_of, nodes_of, unlocked
from fogline.coordinator.core.deployment import OVER, SETTLED, Copy, Deployment, Outcome, Phase, Seen
from fogline.coordinator.core.events import Event, Health, Kind, copy_events, turn_events
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.history import SegmentChange, changes
from fogline.coordinator.core.imports import in_order
from fogline.coordinator.core.locks import NOTHING, Resolution
from fogline.coordinator.core.orders import dropping, restarted, stopped, submitted
from fogline.coordinator.core.plan import Plan, plan
from fogline.coordinator.core.readers import dropped
from fogline.coordinator.core.reconcile import Step, reconcile
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.padl.model import Document
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.growth import Growth
from fogline.coordinator.service.lines import Lines
from fogline.coordinator.service.surroundings import Surroundings
from fogline.coordinator.service.views import Views
from fogline.coordinator.store.sql import Store
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import CopyState, ErrorKind, FoglineError

log = logging.getLogger(__name__)

GLANCE_S = 5.0
"""Leases run out without an event, so everything is looked at this often."""
REST = 2.0
"""Seconds of rest for every second that turning took: what is to be told comes before what is to be thought."""
LONGEST_REST_S = 0.25
"""However much was turned: a phase must not wait long for what is heard of it."""


@dataclass(frozen=True)
class Submission:
    """What a submitter hands over: a checked document, where its files are, what cannot share a process."""

    document: Document
    raw: bytes
    artifacts: Mapping[str, str]
    machine_id: str
    incompatible: Mapping[Link, str]
    resolution: Resolution = NOTHING


class Deployments:
    """Every deployment by id. Lives in the event loop: each public method is one uninterrupted turn."""

    def __init__(self, store: Store, fleet: Fleet, cluster_id: str, wiring: Wiring) -> None:
        self._store = store
        self._fleet = fleet
        self.lines = Lines(store, fleet, cluster_id)
        self._views = Views(fleet, self.lines)
        self._wiring = wiring
        self._deployments = {each.id: each for each in store.deployments()}
        self._around = Surroundings(self._deployments, store, fleet, self.lines)
        self._told: dict[str, dict[Copy, Health]] = {}
        self._due: set[str] = set()
        self.growth = Growth(store, fleet, self.lines)
        self._turning_s = 0.0
        """Spent in turns since the last round began."""
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        fleet.on_change = self._heard

    # What operators ask.

    def plan(self, submission: Submission) -> Plan:
        """What would become of this document on the fleet as it is now."""
        id_ = submission.document.id
        current = self._deployments.get(id_)
        running = (
            nodes_of(copy for copy in current.target if copy.segment in submission.document.pipeline) if current else {}
        )
        given = self._around.of(id_, submission.machine_id, running)
        return plan(submission.document, self._fleet.nodes(), given, submission.incompatible, self._wiring)

    def submit(self, submission: Submission, planned: Plan) -> tuple[int, bool]:
        """Accept a revision of an error-free plan; returns its number and whether nothing changed."""
        id_ = submission.document.id
        self._refuse_without_locks(submission, planned)
        copies, specs = self._copies(submission, planned)
        current = self._deployments.get(id_)
        if current:
            _refuse_while_deleted(current)
        observed = self._views.of(current) if current else {}
        if current and self._unchanged(current, copies, observed):
            self._store.complete_revision(
                id_, current.revision, submission.raw, submission.artifacts, submission.resolution
            )
            return current.revision, True
        number = self._store.add_revision(id_, submission.raw, submission.artifacts, specs, submission.resolution)
        fresh, superseded = submitted(
            current, number, copies, observed, time.time(), rolls_back=_rolls_back(submission.document)
        )
        if current:
            over = current.phase in {Phase.STOPPED, Phase.FAILED}
            ended = [copy for copy in current.target if over and observed[copy].node_connected]
            fresh = dropping(fresh, ended, self._dropped(current, fresh))
        log.info("deployment %s: revision %d accepted", id_, number)
        event = Event(Kind.SUBMITTED, f"revision {number} submitted", id_, number)
        self._turn(fresh, [superseded] if superseded else [], event)
        return number, False

    def _dropped(self, current: Deployment, fresh: Deployment) -> dict[str, tuple[str, ...]]:
        """The readers that only one of what ran last and what is to run has."""
        before, after = ({c.spec_digest: self.parsed(c) for c in copies} for copies in (
            fresh.former or current.target, fresh.target))  # fmt: skip
        return dropped(before, after)

    def compare(self, submission: Submission, planned: Plan) -> list[SegmentChange]:
        """What a submit of an error-free plan would do to each segment."""
        current = self._deployments.get(submission.document.id)
        return changes(current.target if current else (), self._copies(submission, planned)[0])

    def start(self, id_: str) -> None:
        """Run the last revision of a stopped, failed or finished deployment again, under a number of its own."""
        current = self.get(id_)
        _refuse_while_deleted(current)
        if current.phase not in OVER | {Phase.STOPPING}:
            return
        last = self._store.revision(id_, current.revision)
        number = self._store.add_revision(id_, last.document, last.artifacts, {}, last.resolution)
        fresh, _ = submitted(
            current, number, current.target, self._views.of(current), time.time(), rolls_back=current.rolls_back
        )
        log.info("deployment %s: start, as revision %d", id_, number)
        event = Event(Kind.START, f"started by the operator: revision {last.number} again", id_, number)
        self._turn(fresh, (), event)

    def restart(self, id_: str, stage: str = "") -> None:
        """Replace the processes of a running deployment, or that of one stage. Raises FoglineError when it cannot."""
        current = self.get(id_)
        if current.phase not in {Phase.RUNNING, Phase.RESTARTING}:
            sentence = f"deployment {id_} is {current.phase}; only what runs can be restarted"
            raise FoglineError(ErrorKind.CONFLICT, f"{sentence}: `coord start {id_}`, or wait for its verdict")
        chosen = [copy.assignment for copy in current.target if not stage or stage in self._stages(copy)]
        if not chosen:
            sentence = f"deployment {id_} has no stage {stage}; `coord status {id_}` lists them"
            raise FoglineError(ErrorKind.NOT_FOUND, sentence)
        what = f"stage {stage}" if stage else "every segment"
        event = Event(Kind.RESTART, f"{what} restarted by the operator", id_, current.revision)
        self._turn(restarted(current, chosen, time.time()), (), event)

    def stop(self, id_: str, *, release: bool = False) -> None:
        """Drain and stop; with `release` also end broker sessions and then forget the deployment."""
        current = self.get(id_)
        if current.phase is Phase.STOPPED and not release:
            return
        fresh, superseded = stopped(current, time.time(), release=release)
        log.info("deployment %s: %s", id_, "delete" if release else "stop")
        event = Event(Kind.DELETE, "deleted by the operator", id_) if release else None
        event = event or Event(Kind.STOP, "stopped by the operator", id_, current.revision)
        self._turn(fresh, [superseded] if superseded else [], event)

    def take_over(self, fresh: Deployment, specs: Mapping[str, bytes], event: Event) -> None:
        """Remember a deployment that nodes run and this store did not know, or not like this."""
        self._store.add_taken_over(fresh.id, fresh.revision, specs)
        known = {copy.spec_digest: self.parsed(copy) for copy in fresh.target}
        self._turn(replace(fresh, target=in_order(fresh.target, known)), (), event)

    def is_on(self, id_: str, node: str) -> bool:
        """Whether any copy of the revision in charge belongs to that node."""
        return any(copy.node == node for copy in self.get(id_).target)

    def labels(self, id_: str) -> dict[Copy, int]:
        """The revision that each copy was last wanted for."""
        return self.lines.labels(id_)

    def get(self, id_: str) -> Deployment:
        """A deployment by id. Raises FoglineError when there is none."""
        if id_ not in self._deployments:
            raise FoglineError(ErrorKind.NOT_FOUND, f"there is no deployment {id_}; `coord submit` makes one")
        return self._deployments[id_]

    def ids(self) -> list[str]:
        """Every deployment's id, sorted."""
        return sorted(self._deployments)

    def observed(self, id_: str) -> dict[Copy, Seen]:
        """What is known of each copy of a deployment."""
        return self._views.of(self.get(id_))

    def outcome(self, id_: str, number: int) -> Outcome | None:
        """The verdict on a revision, once there is one."""
        revision = self._store.revision(id_, number)
        return None if revision.succeeded is None else Outcome(number, revision.succeeded, revision.verdict)

    def document(self, id_: str) -> bytes:
        """The document of the revision in charge."""
        return self._store.revision(id_, self.get(id_).revision).document

    def spec(self, copy: Copy) -> bytes:
        """The spec that a copy runs, as canonical JSON."""
        return self.lines.spec(copy.spec_digest)

    def parsed(self, copy: Copy) -> SegmentSpec:
        """The spec that a copy runs, as a value."""
        return self.lines.parsed(copy.spec_digest)

    def _stages(self, copy: Copy) -> list[str]:
        return [each.name for each in self.parsed(copy).stages]

    async def changed(self, timeout_s: float) -> None:
        """Return when some deployment may have changed, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Turn the wheel of what was heard of, and of all when a deadline may have come; until cancelled.

        Before a round comes a rest in proportion to what was turned since the one before, by operators too: what is
        to be told is told first, and what is heard meanwhile makes one round, not many.
        """
        glance_at_s = 0.0
        while True:
            began_s, self._turning_s = time.monotonic(), 0.0
            self._wake.clear()
            due, self._due = self._due, set()
            self._fleet.tell_absent()
            if began_s >= glance_at_s:
                due, glance_at_s = set(self._deployments), began_s + GLANCE_S
            for id_ in sorted(due & self._deployments.keys()):
                step = self._turn(self._deployments[id_])
                if step.wake_in_s is not None:
                    glance_at_s = min(glance_at_s, time.monotonic() + step.wake_in_s)
            async with self._changed:
                self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, glance_at_s - time.monotonic())):
                    await self._wake.wait()
            await asyncio.sleep(min(self._turning_s * REST, LONGEST_REST_S))

    def _heard(self, node: str) -> None:
        self._due |= self.lines.deployments_on(node)
        self._wake.set()

    # The wheel.

    def _copies(self, submission: Submission, planned: Plan) -> tuple[tuple[Copy, ...], dict[str, bytes]]:
        return copies_of(_made(submission, planned), self._wiring.cluster, self._fleet.nodes())

    def _refuse_without_locks(self, submission: Submission, planned: Plan) -> None:
        if lacking := unlocked(_made(submission, planned), self._fleet.nodes()):
            segment, node = lacking[0]
            sentence = f"the packages of segment {segment} are not resolved for node {node.name} ({node.target})"
            raise FoglineError(ErrorKind.CONFLICT, f"{sentence}: submit again, with a `coord` as new as this one")

    def _turn(self, deployment: Deployment, outcomes: Sequence[Outcome] = (), event: Event | None = None) -> Step:
        began_s = time.monotonic()
        deployment = self.growth.grown(deployment, lambda: self._around.of(deployment.id))
        observed = self._views.of(deployment)
        step = reconcile(deployment, observed, time.time())
        before = self._deployments.get(deployment.id)
        self._deployments[deployment.id] = step.deployment
        lines, touched = self.lines.after(step)
        outcomes = [*outcomes, *step.outcomes]
        events = [*([event] if event else []), *turn_events(before, step.deployment, outcomes)]
        befallen, self._told[deployment.id] = copy_events(step.deployment, self._told.get(deployment.id, {}), observed)
        events += befallen
        if step.deployment != before or touched or outcomes or events:
            generations = {
                name: self._fleet.records[name].generation for name in touched if name in self._fleet.records
            }
            self._store.commit(step.deployment, list(lines.values()), generations, outcomes, events)
            self._log_turn(before, step)
            self._due.add(deployment.id)
            self._wake.set()
        for name in touched:
            self._fleet.push_to(name)
        finished = step.deployment
        if finished.release and finished.phase is Phase.STOPPED and not finished.leaving:
            self._store.forget(finished.id)
            del self._deployments[finished.id], self._told[finished.id]
        self._turning_s += time.monotonic() - began_s
        return step

    @staticmethod
    def _unchanged(current: Deployment, copies: tuple[Copy, ...], observed: Mapping[Copy, Seen]) -> bool:
        failed = any(seen.state is CopyState.FAILED for seen in observed.values())
        return current.phase is Phase.RUNNING and current.target == copies and not failed

    @staticmethod
    def _log_turn(before: Deployment | None, step: Step) -> None:
        after = step.deployment
        if before is None or before.phase is not after.phase:
            log.info("deployment %s: %s%s", after.id, after.phase, f" ({after.reason})" if after.reason else "")
        for outcome in step.outcomes:
            verdict = "succeeded" if outcome.succeeded else "failed"
            log.info("deployment %s: revision %d %s: %s", after.id, outcome.revision, verdict, outcome.text)


def _made(submission: Submission, planned: Plan) -> Planned:
    locks = submission.resolution.by_place
    return Planned(
        submission.document, planned.segments, planned.automatic, submission.artifacts, locks, planned.servings
    )


def _refuse_while_deleted(deployment: Deployment) -> None:
    """Once it is stopped and waits for an absent node alone, its name may be used again."""
    if deployment.release and deployment.phase is Phase.STOPPING:
        raise FoglineError(ErrorKind.CONFLICT, f"deployment {deployment.id} is being deleted; try again in a moment")


def _rolls_back(document: Document) -> bool:
    """The deployment goes back as a whole, so one stage that asks to stop instead decides for all."""
    return all(stage.deploy.update.on_failure != "stop" for stage in document.pipeline.values())


def settled(deployment: Deployment) -> bool:
    """Whether nothing more happens by itself."""
    return deployment.phase in SETTLED
