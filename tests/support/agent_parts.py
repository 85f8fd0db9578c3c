"""An agent's parts in the test's own process, on a real connection to a coordinator made for the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from fogline.agent import translate
from fogline.agent.config import Config
from fogline.agent.core.desired import Assignment
from fogline.agent.drivers.mock import MockDriver
from fogline.agent.drivers.process import ProcessDriver
from fogline.agent.host.artifacts import ArtifactCache
from fogline.agent.host.environments import Environments
from fogline.agent.host.facts import gather
from fogline.agent.letters import DeadLetters
from fogline.agent.lifecycle import Ladder
from fogline.agent.link import Link
from fogline.agent.preparation import Preparation
from fogline.agent.requests import Requests
from fogline.agent.session import Session
from fogline.agent.store.sqlite import Store
from fogline.agent.supervisor import Supervisor
from fogline.wire.terms import CopyState
from support.agent_builders import RUNTIME

QUICK = Ladder(drain_grace_s=0.3, terminate_s=0.5, hello_s=0.5)


class Node:
    """An agent's parts in this process."""

    def __init__(self, state_dir: Path, store: Store, supervisor: Supervisor) -> None:
        self.state_dir = state_dir
        self.store = store
        self.supervisor = supervisor

    def state(self, wish: Assignment) -> CopyState | None:
        copies = self.supervisor.observation().copies
        return next((copy.state for copy in copies if copy.key == wish.key), None)

    def pid(self, wish: Assignment) -> int:
        copies = self.supervisor.observation().copies
        return next((copy.pid for copy in copies if copy.key == wish.key), 0)


@asynccontextmanager
async def a_node(tmp_path: Path, address: str, *, real: bool = False, idle_s: float = 30.0) -> AsyncIterator[Node]:
    state_dir = tmp_path / "n"
    state_dir.mkdir(exist_ok=True)
    config = Config(address, "gateway-1", "edge", state_dir, {"site": "north"})
    with closing(Store(state_dir / "state.db")) as store:
        link = Link(address)
        cache = ArtifactCache(state_dir / "artifacts", link.fetch)
        environments = Environments(state_dir, cache, RUNTIME)
        preparation = Preparation(cache, environments)
        driver = ProcessDriver() if real else MockDriver()
        supervisor = Supervisor(state_dir, store, driver, preparation, QUICK)
        letters = DeadLetters(state_dir, RUNTIME, supervisor.of_pipeline)
        requests = Requests("gateway-1", supervisor, letters, environments, idle_s)
        facts = translate.node_facts(config, gather(state_dir, address, ""))
        session = Session(link, facts, supervisor, requests, state_dir, refused_delay_s=0.3)
        tasks = [asyncio.create_task(supervisor.run()), asyncio.create_task(session.run())]
        try:
            yield Node(state_dir, store, supervisor)
            for task in tasks:
                assert not task.done() or task.result() is None
        finally:
            await supervisor.stop_all(0.5)
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def scene(coroutine: object) -> None:
    asyncio.run(coroutine)  # type: ignore[arg-type]
