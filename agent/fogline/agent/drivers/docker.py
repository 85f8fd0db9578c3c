"""Containers: one per copy, watched by pidfd like any process, found again by name and label.

The shim is the first process in there, and the workspace is mounted: so the log, the control socket, the lock and
the note of the exit are where they always are. The engine makes and removes containers. While it is away, those it has
left running go on, are watched, drained and ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fogline.agent.drivers import in_memory
from fogline.agent.drivers.base import Container, Exit, Launch
from fogline.agent.drivers.docker_engine import STATE_DIR, Engine, Found, Order
from fogline.agent.drivers.pids import PidWatch
from fogline.agent.drivers.process import SPAWN_S, locked
from fogline.agent.host.facts import boot_id
from fogline.agent.host.workspace import Workspace, read_json, write_durably
from fogline.runtimes.container import inside, recipe, shim
from fogline.runtimes.spec import POSITIONS_VARIABLE, SECRETS_VARIABLE, TLS_FILES, TLS_VARIABLE
from fogline.wire.terms import ErrorKind, FoglineError

log = logging.getLogger(__name__)

WORKSPACE = "/workspace"
NOTE = "container.json"
NOBODY = 65532
"""Whom stages run as where the agent is root."""
_TLS = "node.tls"
"""Among the secrets in memory, where no secret has such a name."""
_SECRETS, _LETTERS, _POSITIONS = "/run/secrets", "/dead-letters", "/positions"
_ENDED_S = 20.0
"""How long the engine may take to take note of an end."""
_LOOK_S = 0.01
_AGAIN_S = 0.2


class DockerHandle:
    """A container, by its first process; that is its shim."""

    def __init__(self, workspace: Path, name: str, watch: PidWatch | None, driver: DockerDriver) -> None:
        """`watch` None: it ended before it could be watched."""
        self.pid = watch.pid if watch else 0
        self._workspace = workspace
        self._name = name
        self._watch = watch
        self._driver = driver
        self._killed = False

    @property
    def known_as(self) -> int:
        """The stage's own number in there."""
        return int(read_json(self._workspace / "shim.json").get("pid", 0))

    @property
    def age_s(self) -> float:
        """By the kernel's count."""
        return self._watch.age_s if self._watch else 0.0

    @property
    def attended(self) -> bool:
        """Always: without its first process there is no container."""
        return True

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._watch is None or not self._watch.alive()

    async def wait(self) -> Exit:
        """How the stage ended; the container is removed."""
        if self._watch:
            await self._watch.ended()
        return await self._driver.ended(self._workspace, self._name, killed=self._killed)

    def terminate(self) -> None:
        """SIGTERM to the shim, which passes it on."""
        if self._watch:
            self._watch.send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the first process: the kernel ends all others of the container with it."""
        if self._watch and self._watch.alive():
            self._killed = True
            self._watch.send(signal.SIGKILL)

    def close(self) -> None:
        """Stop watching."""
        if self._watch:
            self._watch.close()


class DockerDriver:
    """Starts `RUNTIME run` in a container of its own."""

    name = "docker"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start(self, launch: Launch) -> DockerHandle:
        """Make the container and wait until its shim has noted whom it started."""
        if launch.container is None:
            raise FoglineError(ErrorKind.INTERNAL, "this copy is no container: not started")
        name = name_of(launch.workspace)
        os.close(locked(launch.workspace))  # no shim lives in there; the next one takes the lock itself
        former = await asyncio.to_thread(self._engine.find, name)
        if former and former.running:
            raise FoglineError(ErrorKind.CONFLICT, f"container {name} still runs: not started twice")
        await asyncio.to_thread(self._engine.remove, name)
        Workspace(launch.workspace).ready_for_start()
        order = await asyncio.to_thread(_order, launch, launch.container)
        try:
            found = await asyncio.to_thread(self._engine.start, order)
        except FoglineError as error:
            raise FoglineError(error.kind, f"the container did not start: {error.sentence}") from error
        note = {"id": found.id, "memory_bytes": launch.container.memory_bytes}
        write_durably(launch.workspace / NOTE, json.dumps(note | _identity(found)).encode())
        handle = DockerHandle(launch.workspace, name, await self._watched(found), self)
        try:
            await self._identified(launch.workspace, handle)
        except BaseException:
            handle.kill()
            handle.close()
            raise
        return handle

    async def adopt(self, workspace: Path) -> DockerHandle | None:
        """The container of this workspace if it runs: by the kernel's word, or the engine's where nothing was noted."""
        name = name_of(workspace)
        noted = read_json(workspace / NOTE)
        if noted.get("boot_id") == boot_id():
            watch = PidWatch.of(int(noted["pid"]), int(noted["start"]))
            if watch:
                return DockerHandle(workspace, name, watch, self)
        try:
            found = await asyncio.to_thread(self._engine.find, name)
        except FoglineError as error:
            log.warning("%s", error.sentence)
            return None
        if found and found.running and found.labels.get("fogline.workspace") == str(workspace):
            watch = await self._watched(found)
            if watch:
                return DockerHandle(workspace, name, watch, self)
        if found:
            await self.ended(workspace, name, killed=False)
        return None

    async def ended(self, workspace: Path, name: str, *, killed: bool) -> Exit:
        """How the stage of a container that has ended did so. The container goes, and so do its copies of secrets."""
        found = await self._settled(name)
        noted = await asyncio.to_thread(_note_end, workspace, found, killed=killed)
        if found:
            try:
                if not (workspace / "shim.json").exists():
                    await asyncio.to_thread(self._keep_output, workspace, found.id)
                await asyncio.to_thread(self._engine.remove, found.id)  # by its name there may be a newer one
            except FoglineError as error:  # the next start removes it
                log.warning("%s", error.sentence)
        limit_bytes = int(noted.get("limit_bytes", 0))
        return Exit(noted.get("code"), noted.get("signal"), bool(noted.get("oom")), limit_bytes)

    def _keep_output(self, workspace: Path, name: str) -> None:
        if workspace.is_dir() and (said := self._engine.output(name)):
            with Workspace(workspace).log.open("ab") as stage_log:
                stage_log.write(said)

    async def _settled(self, name: str) -> Found | None:
        """The container once the engine has noticed its end; None when it is removed, or the engine is away."""
        try:
            async with asyncio.timeout(_ENDED_S):
                while True:
                    found = await asyncio.to_thread(self._engine.find, name)
                    if found is None or not found.running:
                        return found
                    await asyncio.sleep(_LOOK_S)
        except (FoglineError, TimeoutError):
            return None

    async def _watched(self, found: Found) -> PidWatch | None:
        """Its first process; asked again once watched: from then on number and container mean the same."""
        try:
            watch = PidWatch.of(found.pid, shim.start_ticks(found.pid))
        except (FileNotFoundError, ProcessLookupError):
            return None
        if watch is None:
            return None
        again = await asyncio.to_thread(self._engine.find, found.id)
        if again and again.running and again.pid == found.pid:
            return watch
        watch.close()
        return None

    async def _identified(self, workspace: Path, handle: DockerHandle) -> None:
        try:
            async with asyncio.timeout(SPAWN_S):
                while True:
                    over = handle.over  # asked first: what it wrote before its end is then there to be read
                    if (workspace / "shim.json").exists():
                        return
                    if over:
                        break
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            sentence = f"its shim did not note a process within {SPAWN_S:g} s: is the machine overloaded?"
            raise FoglineError(ErrorKind.FAILED, sentence) from None
        await handle.wait()
        raise FoglineError(ErrorKind.FAILED, f"the process did not start; see {workspace / 'stage.log'}")


def name_of(workspace: Path) -> str:
    """One per workspace: whoever makes it twice is told so by the engine."""
    return f"fogline-{workspace.name}"


def user() -> str:
    """Whom containers run as: never root."""
    return f"{os.geteuid()}:{os.getegid()}" if os.geteuid() else f"{NOBODY}:{NOBODY}"


def hand_over(*paths: Path) -> None:
    """Have the container's user own these, and what is in them; needed only where the agent is root."""
    if os.geteuid() != 0:
        return
    for path in paths:
        for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
            os.chown(each, NOBODY, NOBODY, follow_symlinks=False)


def shared_terms(workspace: Path, container: Container) -> tuple[list[tuple[Path, str, str]], dict[str, str]]:
    """The mounts and variables that a run and a check share; its secrets are laid out in memory."""
    mounts = [(workspace, WORKSPACE, "rw")]
    variables = {SECRETS_VARIABLE: _SECRETS, POSITIONS_VARIABLE: _POSITIONS, TLS_VARIABLE: f"{_SECRETS}/{_TLS}"}
    if container.secrets or container.tls:
        mounts.append((_lay_out_secrets(workspace, container), _SECRETS, "ro"))
    for folder, mode in container.folders.items():
        _require_mountable(Path(folder), workspace.parents[1])
        mounts.append((Path(folder), folder, mode))
    return mounts, variables


def _require_mountable(folder: Path, state_dir: Path) -> None:
    """The engine would make it where it is not there, as root's."""
    found = folder.resolve()
    if not found.is_dir():
        raise FoglineError(ErrorKind.FAILED, f"there is no folder {folder} on this node, for the files in it")
    ours = found.is_relative_to(state_dir) or state_dir.is_relative_to(found)
    if ours or not recipe.may_be_mounted(str(found)):
        raise FoglineError(ErrorKind.REFUSED, f"no container is given the folder {found} of this node")


def _order(launch: Launch, container: Container) -> Order:
    workspace = launch.workspace
    mounts, variables = shared_terms(workspace, container)
    kept = [(launch.dead_letters.parent, _LETTERS, "rw")]
    if container.reads_files:
        kept.append((Path(os.environ.get(POSITIONS_VARIABLE) or workspace / "positions"), _POSITIONS, "rw"))
    for folder, _, _ in kept:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    hand_over(workspace, *(folder for folder, _, _ in kept))
    command = [*launch.runtime, "run", f"{WORKSPACE}/spec.json", "--workspace", WORKSPACE]
    command += ["--artifacts", str(launch.artifacts), "--dead-letters", f"{_LETTERS}/{launch.dead_letters.name}"]
    command += ["--bind"] if launch.bind else []
    labels = {STATE_DIR: str(workspace.parents[1]), "fogline.workspace": str(workspace)}
    return Order(
        name_of(workspace),
        container.image,
        tuple(command),
        (*mounts, *kept),
        user(),
        WORKSPACE,
        variables | launch.environment,
        container.labels | labels,
        container.memory_bytes,
        container.cpus,
    )


def _lay_out_secrets(workspace: Path, container: Container) -> Path:
    """Copies of the secrets that this container may see, in memory. One that is absent is missed by the runtime."""
    folder = in_memory.home() / workspace.name
    _copy(Path(os.environ.get(SECRETS_VARIABLE, "")), container.secrets, folder)
    if container.tls:
        _copy(Path(os.environ.get(TLS_VARIABLE, "")), TLS_FILES, folder / _TLS)
    hand_over(folder)
    return folder


def _copy(source: Path, names: Sequence[str], folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
            (folder / name).chmod((source / name).stat().st_mode)


def _identity(found: Found) -> dict[str, object]:
    try:
        start = shim.start_ticks(found.pid)
    except (FileNotFoundError, ProcessLookupError):
        start = 0
    return {"pid": found.pid, "start": start, "boot_id": boot_id()}


def _note_end(workspace: Path, found: Found | None, *, killed: bool) -> dict[str, Any]:
    """How the stage ended: what its shim noted, and what only the engine can tell, noted too."""
    noted = read_json(workspace / "exit.json")
    known = noted or _judged(found, killed=killed)
    if found and found.out_of_memory and known.get("signal") == signal.SIGKILL:
        limit_bytes = int(read_json(workspace / NOTE).get("memory_bytes", 0))
        known = known | {"oom": True, "limit_bytes": limit_bytes}
    if known != noted and workspace.is_dir():
        write_durably(workspace / "exit.json", json.dumps(known).encode())
    shutil.rmtree(in_memory.place() / workspace.name, ignore_errors=True)
    return known


def _judged(found: Found | None, *, killed: bool) -> dict[str, Any]:
    """The end of a container whose shim could not note it."""
    if found and found.code == inside.LOCKED:
        return {}
    if killed or (found and found.code > 128):
        number = signal.SIGKILL if killed or found is None else found.code - 128
        return {"code": None, "signal": int(number), "oom": False}
    return {"code": found.code, "signal": None, "oom": False} if found else {}
