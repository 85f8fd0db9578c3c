"""Asks a node what it holds when this store does not know it, and takes that over."""

from __future__ import annotations

import logging
import time
from collections import defaultdict

from fogline.coordinator.core.deployment import Copy
from fogline.coordinator.core.events import Event, Kind
from fogline.coordinator.core.imports import Held, taken_over
from fogline.coordinator.service import translate
from fogline.coordinator.service.deployments import Deployments
from fogline.coordinator.service.fleet import Fleet, NodeRecord
from fogline.runtimes.spec import digest
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire.terms import FoglineError

log = logging.getLogger(__name__)

HOLDINGS_S = 20.0


class Imports:
    """One node at a time, at the first observation of its session; until it is done, the node is told nothing."""

    def __init__(self, fleet: Fleet, deployments: Deployments) -> None:
        self._fleet = fleet
        self._deployments = deployments

    def due(self, record: NodeRecord) -> bool:
        """Whether the node has seen later numbers than the store knows, or has copies that it does not know."""
        return record.behind or any(
            self._deployments.lines.get(Copy(*key, record.facts.name, "", 0)) is None
            for key, copy in record.observed.items()
            if copy.state != common.COPY_STATE_GONE
        )

    async def take(self, record: NodeRecord) -> None:
        """Ask, and take over. A node that cannot answer goes on as it is, and is asked again when it comes back."""
        name, assignments = record.facts.name, list[agent.Assignment]()
        try:
            request = agent.NodeRequest(deadline_s=HOLDINGS_S, holdings=agent.Holdings())
            async for reply in self._fleet.ask(name, request):
                assignments += reply.held.assignments
            self._take_over(name, assignments, trusted=record.behind)
            record.behind = False
        except FoglineError as error:
            log.warning("what node %s holds is not known: %s", name, error.sentence)
        finally:
            record.importing = False
            record.push.set()

    def _take_over(self, node: str, assignments: list[agent.Assignment], *, trusted: bool) -> None:
        """Without trust only what is unknown altogether: a node of another cluster may use the same names."""
        by_pipeline = defaultdict[str, list[agent.Assignment]](list)
        for each in assignments:
            if digest(each.spec) != each.spec_digest:
                log.warning("node %s: %s came without its spec and is left alone", node, each.id)
                continue
            by_pipeline[each.id.split("/")[0]].append(each)
        known = set(self._deployments.ids())
        if trusted:
            wanted = by_pipeline.keys() | {id_ for id_ in known if self._deployments.is_on(id_, node)}
        else:
            wanted = by_pipeline.keys() - known
            for id_ in by_pipeline.keys() & known:
                self._leave_alone(id_, node, by_pipeline[id_])
        for id_ in sorted(wanted):
            self._take_one(id_, node, by_pipeline[id_])

    def _take_one(self, id_: str, node: str, assignments: list[agent.Assignment]) -> None:
        held = [translate.held(each, node) for each in assignments]
        current = self._deployments.get(id_) if id_ in self._deployments.ids() else None
        labels = self._deployments.labels(id_)
        fresh = taken_over(current, node, held, labels, time.time())
        if fresh is None or (current and (fresh.target, fresh.phase) == (current.target, current.phase)):
            return
        runs = sorted(each.copy.segment for each in held if each.copy in fresh.target)
        log.warning("deployment %s: taken over from node %s: %s", id_, node, ", ".join(runs) or "nothing runs")
        text = f"taken over from node {node}, which runs {', '.join(runs)}" if runs else f"node {node} runs none of it"
        event = Event(Kind.IMPORTED, text, id_, fresh.revision, node=node)
        specs = {each.spec_digest: each.spec for each in assignments}
        self._deployments.take_over(fresh, specs, event)

    def _leave_alone(self, id_: str, node: str, assignments: list[agent.Assignment]) -> None:
        for each in assignments:
            held: Held = translate.held(each, node)
            if self._deployments.lines.get(held.copy) is None:
                log.warning("node %s has %s, which deployment %s does not know: left alone", node, each.id, id_)
