"""A supervisor over real processes of the stand-in runtime, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from fogline.agent.core.desired import Assignment, Desired
from fogline.agent.core.observed import CopySeen
from fogline.agent.drivers.base import Driver
from fogline.agent.drivers.process import ProcessDriver
from fogline.agent.host.artifacts import ArtifactCache
from fogline.agent.host.environments import Environments
from fogline.agent.lifecycle import Ladder
from fogline.agent.preparation import Preparation
from fogline.agent.store.sqlite import Store
from fogline.agent.supervisor import Supervisor
from fogline.wire.terms import CopyState, ErrorKind, FoglineError
from support.agent_builders import RUNTIME, until

QUICK = Ladder(drain_grace_s=0.3, terminate_s=0.5, kill_s=5.0, hello_s=0.5, bind_again_s=0.05)


class Node:
    """A supervisor with its store, and words for what a test does to it."""

    def __init__(self, state_dir: Path, store: Store, supervisor: Supervisor) -> None:
        self.state_dir = state_dir
        self.store = store
        self.supervisor = supervisor
        self._generation = store.membership().generation

    def wants(self, *wishes: Assignment) -> None:
        self._generation += 1
        self.supervisor.accept(Desired("c1", 1, self._generation, wishes))

    def sees(self, wish: Assignment) -> CopySeen | None:
        copies = self.supervisor.observation().copies
        return next((copy for copy in copies if copy.key == wish.key), None)

    def state(self, wish: Assignment) -> CopyState | None:
        seen = self.sees(wish)
        return seen.state if seen else None

    async def reaches(self, wish: Assignment, state: CopyState) -> CopySeen:
        what = f"{wish.id} is {state}"
        await until(lambda: self.state(wish) is state, what, seen=lambda: self.sees(wish))
        seen = self.sees(wish)
        assert seen is not None
        return seen


async def unreachable(digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
    raise FoglineError(ErrorKind.UNREACHABLE, "waiting for the coordinator")
    yield b"", 0


@asynccontextmanager
async def a_node(
    state_dir: Path, *, driver: Driver | None = None, leave: bool = False, refuses: tuple[str, ...] = ()
) -> AsyncIterator[Node]:
    """A running supervisor; at the end its processes are stopped, or (leave) left alone."""
    state_dir.mkdir(exist_ok=True)
    with closing(Store(state_dir / "state.db")) as store:
        cache = ArtifactCache(state_dir / "artifacts", unreachable)
        preparation = Preparation(cache, Environments(state_dir, cache, RUNTIME), refuses)
        supervisor = Supervisor(state_dir, store, driver or ProcessDriver(), preparation, QUICK)
        running = asyncio.create_task(supervisor.run())
        try:
            await asyncio.wait_for(supervisor.restored.wait(), 10)
            yield Node(state_dir, store, supervisor)
            assert not running.done() or running.result() is None
        finally:
            if not leave:
                await supervisor.stop_all(0.5)
            running.cancel()
            (ended,) = await asyncio.gather(running, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended


def scene(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine."""
    asyncio.run(coroutine)
