"""What the other deployments leave of each node: processor, memory, ports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fogline.coordinator.core.deployment import OVER, Copy, Deployment
from fogline.coordinator.core.place import Circumstances
from fogline.coordinator.core.ports import Ports, machine_of
from fogline.coordinator.padl.parse import parse
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.lines import Lines
from fogline.coordinator.store.sql import Store

NOWHERE: Mapping[str, Sequence[str]] = MappingProxyType({})


class Surroundings:
    """Looks at `deployments`, which belong to somebody else."""

    def __init__(self, deployments: Mapping[str, Deployment], store: Store, fleet: Fleet, lines: Lines) -> None:
        self._deployments = deployments
        self._store = store
        self._fleet = fleet
        self._lines = lines

    def of(self, id_: str, machine_id: str = "", running: Mapping[str, Sequence[str]] = NOWHERE) -> Circumstances:
        """What placing the deployment `id_` must know. `machine_id`: the submitter's; `running`: segment -> nodes."""
        cpus: dict[str, float] = {}
        memory_bytes: dict[str, int] = {}
        for other in self._deployments.values():
            if other.id == id_ or other.phase in OVER:
                continue
            document, _ = parse(json.loads(self._store.revision(other.id, other.revision).document or b"{}"))
            for copy in other.target:
                if document is None:  # taken over from the nodes: nobody knows what it asks for
                    break
                resources = document.pipeline[copy.segment].resources
                cpus[copy.node] = cpus.get(copy.node, 0.0) + (resources.cpus or 0.0)
                memory_bytes[copy.node] = memory_bytes.get(copy.node, 0) + (resources.memory_bytes or 0)
        first = {segment: nodes[0] for segment, nodes in running.items()}
        return Circumstances(machine_id, first, running, cpus, memory_bytes, self._ports(id_))

    def _ports(self, id_: str) -> Ports:
        """Those of stopped deployments too: what is started again listens where it did."""
        machines = {node.name: machine_of(node) for node in self._fleet.nodes()}
        own: dict[str, tuple[str, int]] = {}
        others: dict[str, dict[int, str]] = {}
        for deployment in self._deployments.values():
            for copy, port in self._served(deployment):
                if deployment.id != id_:
                    others.setdefault(machines.get(copy.node, copy.node), {})[port] = deployment.id
                elif copy in deployment.target:
                    own[copy.segment] = (copy.node, port)
        return Ports(own, others)

    def _served(self, deployment: Deployment) -> list[tuple[Copy, int]]:
        """Its copies that listen, or listened, and where."""
        copies = {*deployment.target, *deployment.former, *deployment.leaving}
        specs = ((copy, self._lines.parsed(copy.spec_digest)) for copy in sorted(copies))
        return [(copy, spec.serving.port) for copy, spec in specs if spec.serving is not None]
