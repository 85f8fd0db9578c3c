"""The desired state of every node, line by line, and the numbers it goes by."""

from __future__ import annotations

import logging

from fogline.coordinator.core.deployment import Copy, Deployment, Want
from fogline.coordinator.core.reconcile import DRAIN_S, Step
from fogline.coordinator.service import translate
from fogline.coordinator.service.fleet import Fleet, NodeRecord
from fogline.coordinator.store.sql import DesiredLine, Store
from fogline.v1 import agent_coordinator_pb2 as agent

log = logging.getLogger(__name__)


class Lines:
    """What each node is told, as it is kept in the store."""

    def __init__(self, store: Store, fleet: Fleet, cluster_id: str) -> None:
        self._store = store
        self._fleet = fleet
        self._cluster_id = cluster_id
        self._epoch = store.epoch()
        self._lines = {line.copy: line for line in store.desired()}
        self._sent: dict[str, tuple[object, int]] = {}

    def get(self, copy: Copy) -> DesiredLine | None:
        """The line of a copy, if its node is told anything about it."""
        return self._lines.get(copy)

    def labels(self, id_: str) -> dict[Copy, int]:
        """The revision that each copy of a deployment was last wanted for."""
        return {copy: line.revision for copy, line in self._lines.items() if line.deployment == id_}

    def heard_generation(self, record: NodeRecord, epoch: int, generation: int) -> None:
        """A node that saw a later desired state than this store knows: go on above it, never back."""
        record.behind = generation > record.generation or epoch > self._epoch
        if (epoch, generation) > (self._epoch, record.generation):
            self._epoch = max(self._epoch, epoch) + 1
            self._store.set_epoch(self._epoch)
            log.warning(
                "node %s has seen a later state than this store: epoch is now %d",
                record.facts.name,
                self._epoch,
            )

    def unsent_desired(self, record: NodeRecord) -> agent.DesiredState | None:
        """The node's full desired state, unless this session has had this generation already."""
        mark = (record.session, record.generation)
        name = record.facts.name
        if self._sent.get(name) == mark:
            return None
        self._sent[name] = mark
        lines = sorted((line for line in self._lines.values() if line.copy.node == name), key=lambda line: line.copy)
        return agent.DesiredState(
            cluster_id=self._cluster_id,
            epoch=self._epoch,
            generation=record.generation,
            assignments=[
                translate.assignment(
                    line.copy, line.want, self._store.spec(line.copy.spec_digest), line.revision, DRAIN_S
                )
                for line in lines
            ],
        )

    def after(self, step: Step) -> tuple[dict[Copy, DesiredLine], set[str]]:
        """Lines after this step, and the nodes whose desired state they change; raises their generations."""
        id_ = step.deployment.id
        old = {copy: line for copy, line in self._lines.items() if line.deployment == id_}
        changed = {copy for copy, want in step.wanted.items() if copy not in old or old[copy].want != want}
        touched = {copy.node for copy in changed | (old.keys() - step.wanted.keys())}
        for name in touched:
            if name in self._fleet.records:
                self._fleet.records[name].generation += 1
        lines = {
            copy: old[copy] if copy not in changed else self._line(step.deployment, copy, want)
            for copy, want in step.wanted.items()
        }
        self._lines = {copy: line for copy, line in self._lines.items() if line.deployment != id_} | lines
        return lines, touched

    def _line(self, deployment: Deployment, copy: Copy, want: Want) -> DesiredLine:
        record = self._fleet.records.get(copy.node)
        return DesiredLine(copy, deployment.id, deployment.revision, want, record.generation if record else 0)
