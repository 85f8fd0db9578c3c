"""The desired state of every node, line by line, and the numbers it goes by."""

from __future__ import annotations

import logging
from collections import defaultdict

from fogline.coordinator.core.deployment import Copy, Deployment, Want
from fogline.coordinator.core.reconcile import DRAIN_S, Step
from fogline.coordinator.service import translate
from fogline.coordinator.service.fleet import Fleet, NodeRecord
from fogline.coordinator.store.sql import DesiredLine, Store
from fogline.runtimes.spec import SegmentSpec, parse
from fogline.v1 import agent_coordinator_pb2 as agent

log = logging.getLogger(__name__)

SPECS_HELD = 4096
"""Specs kept at hand, of some 2 kB each."""


class Lines:
    """What each node is told, as it is kept in the store."""

    def __init__(self, store: Store, fleet: Fleet, cluster_id: str) -> None:
        self._store = store
        self._fleet = fleet
        self._cluster_id = cluster_id
        self._epoch = store.epoch()
        self._of_deployment: dict[str, dict[Copy, DesiredLine]] = defaultdict(dict)
        self._of_node: dict[str, dict[Copy, DesiredLine]] = defaultdict(dict)
        for line in store.desired():
            self._of_deployment[line.deployment][line.copy] = line
            self._of_node[line.copy.node][line.copy] = line
        self._specs: dict[str, bytes] = {}
        self._parsed: dict[str, SegmentSpec] = {}
        self._sent: dict[str, tuple[object, int]] = {}

    def get(self, copy: Copy) -> DesiredLine | None:
        """The line of a copy, if its node is told anything about it."""
        return self._of_node.get(copy.node, {}).get(copy)

    def labels(self, id_: str) -> dict[Copy, int]:
        """The revision that each copy of a deployment was last wanted for."""
        return {copy: line.revision for copy, line in self._of_deployment.get(id_, {}).items()}

    def deployments_on(self, node: str) -> set[str]:
        """Every deployment that has something wanted of that node."""
        return {line.deployment for line in self._of_node.get(node, {}).values()}

    def spec(self, digest: str) -> bytes:
        """The spec of that digest: read once, since one change goes to many nodes. KeyError: never added."""
        if digest not in self._specs:
            if len(self._specs) >= SPECS_HELD:
                self._specs.clear()
            self._specs[digest] = self._store.spec(digest)
        return self._specs[digest]

    def parsed(self, digest: str) -> SegmentSpec:
        """The spec of that digest as a value: parsed once. KeyError: never added."""
        if digest not in self._parsed:
            if len(self._parsed) >= SPECS_HELD:
                self._parsed.clear()
            self._parsed[digest] = parse(self.spec(digest))
        return self._parsed[digest]

    def heard_generation(self, record: NodeRecord, epoch: int, generation: int) -> None:
        """A node that saw a later desired state than this store knows: go on above it, never back."""
        record.behind = generation > record.generation or epoch > self._epoch
        if (epoch, generation) > (self._epoch, record.generation):
            self._epoch = max(self._epoch, epoch) + 1
            self._store.set_epoch(self._epoch)
            log.warning(
                "node %s was told more than this store remembers (a lost or older store?): going on as epoch %d",
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
        lines = sorted(self._of_node.get(name, {}).values(), key=lambda line: line.copy)
        return agent.DesiredState(
            cluster_id=self._cluster_id,
            epoch=self._epoch,
            generation=record.generation,
            assignments=[
                translate.assignment(line.copy, line.want, self.spec(line.copy.spec_digest), line.revision, DRAIN_S)
                for line in lines
            ],
        )

    def after(self, step: Step) -> tuple[dict[Copy, DesiredLine], set[str]]:
        """Lines after this step, and the nodes whose desired state they change; raises their generations."""
        id_ = step.deployment.id
        old = self._of_deployment.pop(id_, {})
        changed = {copy for copy, want in step.wanted.items() if copy not in old or old[copy].want != want}
        touched = {copy.node for copy in changed | (old.keys() - step.wanted.keys())}
        for name in touched:
            if name in self._fleet.records:
                self._fleet.records[name].generation += 1
        lines = {
            copy: old[copy] if copy not in changed else self._line(step.deployment, copy, want)
            for copy, want in step.wanted.items()
        }
        for copy in old.keys() - lines.keys():
            del self._of_node[copy.node][copy]
        for copy, line in lines.items():
            self._of_node[copy.node][copy] = line
        if lines:
            self._of_deployment[id_] = lines
        return lines, touched

    def _line(self, deployment: Deployment, copy: Copy, want: Want) -> DesiredLine:
        record = self._fleet.records.get(copy.node)
        return DesiredLine(copy, deployment.id, deployment.revision, want, record.generation if record else 0)
