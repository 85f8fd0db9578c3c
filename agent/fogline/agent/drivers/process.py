"""Native processes: one shim per copy, watched by pidfd, found again by boot id and start time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from fogline.agent.drivers.base import Exit, Launch
from fogline.agent.drivers.pids import PidWatch, end_group, is_the_one
from fogline.agent.host.facts import boot_id
from fogline.agent.host.workspace import Workspace, read_json
from fogline.runtimes.container import shim
from fogline.wire.terms import ErrorKind, FoglineError

SPAWN_S = 60.0
"""A shim that has not said who it started by then is broken."""
LAST_WORDS_S = 20.0
"""How long an ended stage's shim may take to note the exit: it syncs the note, and a busy disk takes its time."""
_LOOK_S = 0.005


class ProcessHandle:
    """A stage under its shim. Holds even where the shim was killed: the stage itself is watched."""

    def __init__(
        self, workspace: Path, pid: int, stage: PidWatch | None, session: int, shim_watch: PidWatch | None
    ) -> None:
        """`stage` None: it ended before it could be watched. `shim_watch` None: its shim is gone."""
        self.pid = self.known_as = pid
        self._workspace = workspace
        self._session = session
        self._stage = stage
        self._shim = shim_watch

    @property
    def age_s(self) -> float:
        """By the kernel's count, which goes on while the machine sleeps."""
        return self._stage.age_s if self._stage else 0.0

    @property
    def attended(self) -> bool:
        """Whether its shim lives, as long as it does itself; asked in this order, since a shim ends last."""
        return (self._shim is not None and self._shim.alive()) or self._stage is None or not self._stage.alive()

    async def wait(self) -> Exit:
        """How the stage ended, as its shim noted it; an empty Exit when the shim is gone too."""
        if self._stage:
            await self._stage.ended()
        if self._shim:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._shim.ended()
        noted = read_json(self._workspace / "exit.json")
        if not noted and not (self._shim and self._shim.alive()):  # nobody has ended what the stage left behind
            await asyncio.to_thread(end_group, self.pid, self._session)
        return Exit(noted.get("code"), noted.get("signal"), bool(noted.get("oom")))

    def terminate(self) -> None:
        """SIGTERM to the stage."""
        if self._stage:
            self._stage.send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the stage and its process group."""
        if self._stage and self._stage.alive():
            end_group(self.pid, self._session)
            self._stage.send(signal.SIGKILL)

    def close(self) -> None:
        """Stop watching both processes."""
        for watch in (self._stage, self._shim):
            if watch:
                watch.close()


class ProcessDriver:
    """Starts `RUNTIME run` under a shim."""

    name = "process"

    async def start(self, launch: Launch) -> ProcessHandle:
        """Start the shim and wait until it has noted whom it started."""
        shim_pid = self._spawn(launch)
        shim_watch = PidWatch(shim_pid, os.pidfd_open(shim_pid))
        try:
            async with asyncio.timeout(SPAWN_S):
                return await _identified(launch.workspace, shim_watch)
        except TimeoutError:
            shim_watch.send(signal.SIGKILL)
            shim_watch.close()
            sentence = f"its shim did not note a process within {SPAWN_S:g} s: is the machine overloaded?"
            raise FoglineError(ErrorKind.FAILED, sentence) from None
        except BaseException:
            shim_watch.close()
            raise

    async def adopt(self, workspace: Path) -> ProcessHandle | None:
        """The stage of this workspace if it is the very process that the shim noted in this boot."""
        if not workspace.is_dir() or not await _shim_has_spoken(workspace):
            return None
        noted = _noted(workspace)
        if noted is None:
            return None
        stage = PidWatch.of(noted.pid, noted.start)
        if stage is None:
            return None
        shim_watch = PidWatch.of(noted.shim_pid, noted.shim_start)
        return ProcessHandle(workspace, stage.pid, stage, noted.shim_pid, shim_watch)

    def _spawn(self, launch: Launch) -> int:
        """The shim's pid. From the lock on nobody else can start anything in this workspace."""
        spec = str(launch.workspace / "spec.json")
        command = [*launch.runtime, "run", spec, "--workspace", str(launch.workspace)]
        command += ["--artifacts", str(launch.artifacts), "--dead-letters", str(launch.dead_letters)]
        command += ["--bind"] if launch.bind else []
        lock = locked(launch.workspace)
        try:
            noted = _noted(launch.workspace)
            if noted and is_the_one(noted.pid, noted.start):  # its shim is gone, and the lock with it
                sentence = f"process {noted.pid} still runs in {launch.workspace}: not started twice"
                raise FoglineError(ErrorKind.CONFLICT, sentence)
            Workspace(launch.workspace).ready_for_start()
            return _spawn_shim(launch, command, lock)
        finally:
            os.close(lock)


class _Noted(NamedTuple):
    """Whom the shim of a workspace has noted, in this boot."""

    pid: int
    start: int
    shim_pid: int
    shim_start: int


def _noted(workspace: Path) -> _Noted | None:
    noted = read_json(workspace / "shim.json")
    if noted.get("boot_id") != boot_id():
        return None
    try:
        return _Noted(*(int(noted[name]) for name in _Noted._fields))
    except (KeyError, ValueError, TypeError):  # no shim of ours writes that: the lock alone counts then
        return None


def _spawn_shim(launch: Launch, command: list[str], lock: int) -> int:
    log = str(launch.workspace / "stage.log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, lock, shim.LOCK),
    ]
    argv = [sys.executable, "-I", "-S", shim.__file__, str(launch.workspace), *command]
    environment = dict(os.environ) | launch.environment
    try:
        return os.posix_spawn(sys.executable, argv, environment, file_actions=actions, setsid=True, setsigmask=[])
    except OSError as error:
        raise FoglineError(ErrorKind.FAILED, f"the process cannot be started: {error}") from error


def locked(workspace: Path) -> int:
    """The workspace's lock, to be handed to the shim: held from before it exists until it ends."""
    handle = os.open(workspace / "shim.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise FoglineError(ErrorKind.CONFLICT, f"a shim still lives in {workspace}: not started twice") from None
    return handle


async def _identified(workspace: Path, shim_watch: PidWatch) -> ProcessHandle:
    while True:
        gone = not shim_watch.alive()  # asked first: what it wrote before its end is then there to be read
        noted = _noted(workspace)
        if noted:
            stage = PidWatch.of(noted.pid, noted.start)
            return ProcessHandle(workspace, noted.pid, stage, noted.shim_pid, shim_watch)
        if gone:
            raise FoglineError(ErrorKind.FAILED, f"the process did not start; see {workspace / 'stage.log'}")
        await asyncio.sleep(_LOOK_S)


async def _shim_has_spoken(workspace: Path) -> bool:
    """Whether `shim.json` is there; waits for a shim that an earlier agent had only just started."""
    for _ in range(int(SPAWN_S / _LOOK_S)):
        if (workspace / "shim.json").exists():
            return True
        try:
            os.close(locked(workspace))
        except FoglineError:  # a shim lives and will speak
            await asyncio.sleep(_LOOK_S)
        else:
            return (workspace / "shim.json").exists()
    return False
