"""Composition root: builds the agent, starts it in order, stops it in reverse.

Start:  lock -> store -> supervisor (adopts what runs, starts what its own disk says) -> session (dials)
Stop:   session -> [tied: every stage drained and ended] -> supervisor -> store -> lock
Without `--tied` the stages stay when the agent ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fogline.agent import translate
from fogline.agent.config import Config
from fogline.agent.drivers.either import EitherDriver
from fogline.agent.drivers.process import ProcessDriver
from fogline.agent.host import leftovers
from fogline.agent.host.artifacts import ArtifactCache
from fogline.agent.host.environments import RUNTIME, Environments
from fogline.agent.host.facts import gather
from fogline.agent.host.memory import keep_light
from fogline.agent.host.workspace import existing, read_json
from fogline.agent.letters import DeadLetters, move_former_letters
from fogline.agent.link import Link
from fogline.agent.needs import needs
from fogline.agent.preparation import Preparation
from fogline.agent.pruning import Pruning, Removal, ask
from fogline.agent.requests import Requests
from fogline.agent.session import ADOPT_MARK, Session
from fogline.agent.store.sqlite import Phase, Store
from fogline.agent.supervisor import Supervisor
from fogline.runtimes.spec import POSITIONS_VARIABLE, SECRETS_VARIABLE, TLS_VARIABLE
from fogline.wire.terms import ErrorKind, FoglineError

if TYPE_CHECKING:
    from fogline.agent.containers import Containers

log = logging.getLogger(__name__)

TIED_DRAIN_S = 5.0
PR_SET_PDEATHSIG = 1


async def run(config: Config, runtime: tuple[str, ...] = RUNTIME) -> None:
    """Run the agent until SIGTERM or SIGINT; `runtime` is what starts specs without a lock.

    Raises FoglineError when it cannot start.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with locked(config.state_dir), contextlib.closing(Store(config.state_dir / "state.db")) as store:
        os.environ.setdefault(SECRETS_VARIABLE, str(config.state_dir / "secrets"))
        os.environ[TLS_VARIABLE] = str(config.state_dir / "tls")
        os.environ.setdefault(POSITIONS_VARIABLE, str(config.state_dir / "positions"))
        leftovers.clear_half(config.state_dir)
        move_former_letters(config.state_dir)
        link = Link(config.coordinator)
        cache = ArtifactCache(config.state_dir / "artifacts", link.fetch, config.artifact_cap_bytes)
        environments = Environments(config.state_dir, cache, runtime, config.environments)
        containers = await asyncio.to_thread(_containers, config.state_dir, environments, cache)
        preparation = Preparation(cache, environments, config.refuses, containers)
        driver = EitherDriver(ProcessDriver(), containers.driver if containers else None)
        supervisor = Supervisor(config.state_dir, store, driver, preparation)
        clear = containers.clear if containers else None
        pruning = Pruning(config.state_dir, environments, lambda: supervisor.holdings().assignments, clear)
        cache.needed = lambda: needs(supervisor.holdings().assignments, environments).artifacts
        environments.make_room = pruning.make_room
        letters = DeadLetters(config.state_dir, runtime, supervisor.of_pipeline)
        requests = Requests(config.name, supervisor, letters, environments)
        drivers = ("process", "docker") if containers and containers.answers() else ("process",)
        facts = gather(config.state_dir, config.coordinator, config.address, drivers)
        session = Session(link, translate.node_facts(config, facts), supervisor, requests, config.state_dir)
        log.info("node %s (%s), state in %s", config.name, config.layer, config.state_dir)
        await _run_parts(Parts(supervisor, session, pruning), stop, tied=config.tied)
    log.info("ended")


def _containers(state_dir: Path, environments: Environments, artifacts: ArtifactCache) -> Containers | None:
    """None where there is no engine, or not the library that talks to it; then that is not loaded either."""
    socket = Path("/var/run/docker.sock")
    wanted = any(read_json(each.spec).get("container") for each in existing(state_dir))
    if not (wanted or socket.exists() or "DOCKER_HOST" in os.environ) or find_spec("docker") is None:
        return None
    from fogline.agent.containers import Containers

    return Containers(state_dir, environments, artifacts)


class Parts(NamedTuple):
    """What runs as long as the agent."""

    supervisor: Supervisor
    session: Session
    pruning: Pruning


async def _run_parts(parts: Parts, stop: asyncio.Event, *, tied: bool) -> None:
    async with asyncio.TaskGroup() as group:
        supervising = group.create_task(parts.supervisor.run())
        conversing = group.create_task(_converse(parts))
        lightening = group.create_task(keep_light())
        await stop.wait()
        log.info("stopping%s", " with all stages" if tied else ", the stages stay")
        conversing.cancel()
        await asyncio.gather(conversing, return_exceptions=True)
        if tied:
            await parts.supervisor.stop_all(TIED_DRAIN_S)
        supervising.cancel()
        lightening.cancel()


async def _converse(parts: Parts) -> None:
    """Only once it is known what runs here: what nobody knows of would seem to be needed by nobody."""
    await parts.supervisor.restored.wait()
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.pruning.serve())
        group.create_task(parts.session.run())


def prune(state_dir: Path, *, dry_run: bool) -> list[Removal]:
    """Remove what no assignment needs, by the agent that runs there, or in its place while none does.

    Raises FoglineError.
    """
    if not (state_dir / "state.db").exists():
        raise _never_ran(state_dir)
    try:
        with locked(state_dir), contextlib.closing(Store(state_dir / "state.db")) as store:
            if not dry_run:
                leftovers.clear_half(state_dir)
            wishes = [record.wish for record in store.copies() if record.phase is not Phase.GONE]
            intents = [each.intent() for each in existing(state_dir)]
            wishes += [each.wish for each in intents if each]
            cache = ArtifactCache(state_dir / "artifacts", Link("").fetch)
            environments = Environments(state_dir, cache)
            containers = _containers(state_dir, environments, cache)
            clear = containers.clear if containers else None
            return asyncio.run(Pruning(state_dir, environments, lambda: wishes, clear).prune(dry_run=dry_run))
    except FoglineError as error:
        if error.kind is not ErrorKind.CONFLICT:
            raise
    return asyncio.run(ask(state_dir, dry_run=dry_run))


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state folder. Raises FoglineError when another agent holds it, or it cannot be made."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"--state-dir {state_dir} cannot be used: {error}") from error
    try:
        _take_lock(handle, state_dir)
        yield
    finally:
        os.close(handle)


def _take_lock(handle: int, state_dir: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sentence = f"another agent runs with --state-dir {state_dir}: stop it, or name another folder"
        raise FoglineError(ErrorKind.CONFLICT, sentence) from None


def mark_adoption(state_dir: Path) -> None:
    """Tell the agent of this state folder, running or not, to accept another cluster."""
    if not (state_dir / "state.db").exists():
        raise _never_ran(state_dir)
    (state_dir / ADOPT_MARK).touch()


def _never_ran(state_dir: Path) -> FoglineError:
    return FoglineError(ErrorKind.NOT_FOUND, f"no agent has ever run with --state-dir {state_dir}")


def tie_to_parent() -> None:
    """Have the kernel send SIGTERM when the process that started us ends."""
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it ended in between
        os.kill(os.getpid(), signal.SIGTERM)
