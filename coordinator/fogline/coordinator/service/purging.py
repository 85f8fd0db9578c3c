"""Dead letters of deleted deployments: removed on every node that ever ran them, as soon as it is there."""

from __future__ import annotations

import asyncio
import logging

from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.store.sql import Store
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.wire.terms import FoglineError

log = logging.getLogger(__name__)

ANSWER_S = 10.0
LOOK_S = 30.0


class Purging:
    """Works through what the store says is left to be purged; one attempt per node and session."""

    def __init__(self, store: Store, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet
        self._tried: dict[tuple[str, str], object] = {}

    async def run(self, look_s: float = LOOK_S) -> None:
        """Look now and then for nodes that have come back; until cancelled."""
        while True:
            for id_ in {deployment for deployment, _ in self._store.purges()}:
                await self.attempt(id_)
            await asyncio.sleep(look_s)

    async def attempt(self, id_: str) -> list[str]:
        """Ask the nodes that are there; returns those on which dead letters remain for now."""
        nodes = [node for deployment, node in self._store.purges() if deployment == id_]
        async with asyncio.TaskGroup() as group:
            tasks = {node: group.create_task(self._purge(id_, node)) for node in nodes}
        return [node for node, task in tasks.items() if not task.result()]

    async def _purge(self, id_: str, node: str) -> bool:
        record = self._fleet.records.get(node)
        session = record.session if record else None
        if session is None or self._tried.get((id_, node)) is session:
            return False
        self._tried[id_, node] = session
        request = agent.NodeRequest(deadline_s=ANSWER_S, dead_letters=agent.DeadLetters(pipeline=id_, action="purge"))
        try:
            async for _ in self._fleet.ask(node, request):
                continue
        except FoglineError as error:
            log.warning("dead letters of %s remain on %s: %s", id_, node, error.sentence)
            return False
        self._store.purged(id_, node)
        del self._tried[id_, node]
        return True
