"""Native processes: one shim per copy, watched by pidfd, found again by boot id and start time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import signal
import sys
from pathlib import Path

from fogline.agent.drivers import shim
from fogline.agent.drivers.base import Exit, Launch
from fogline.agent.host.facts import boot_id
from fogline.agent.host.workspace import read_json
from fogline.wire.terms import ErrorKind, FoglineError

RUNTIME = (sys.executable, "-m", "fogline.runtimes")

SPAWN_S = 60.0
"""A shim that has not said who it started by then is broken."""
LAST_WORDS_S = 5.0
"""How long an ended stage's shim may take to note the exit."""
_LOOK_S = 0.005


class ProcessHandle:
    """A stage under its shim. Holds even where the shim was killed: the stage itself is watched."""

    def __init__(self, workspace: Path, pid: int, stage: PidWatch | None, shim_watch: PidWatch | None) -> None:
        """`stage` None: it ended before it could be watched. `shim_watch` None: its shim is gone."""
        self.pid = pid
        self._workspace = workspace
        self._stage = stage
        self._shim = shim_watch

    async def wait(self) -> Exit:
        """How the stage ended, as its shim noted it; an empty Exit when the shim is gone too."""
        if self._stage:
            await self._stage.ended()
        if self._shim:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._shim.ended()
        noted = read_json(self._workspace / "exit.json")
        return Exit(noted.get("code"), noted.get("signal"))

    def terminate(self) -> None:
        """SIGTERM to the stage."""
        if self._stage:
            self._stage.send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the stage and its process group."""
        if self._stage and self._stage.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._stage.send(signal.SIGKILL)

    def close(self) -> None:
        """Stop watching both processes."""
        for watch in (self._stage, self._shim):
            if watch:
                watch.close()


class PidWatch:
    """One process, ours or adopted, by a descriptor that a reused pid cannot fool."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._on_end)

    @classmethod
    def of(cls, pid: int, start: int) -> PidWatch | None:
        """Watch `pid` if it is the process that began at `start` ticks and still lives."""
        try:
            pidfd = os.pidfd_open(pid)
        except (ProcessLookupError, ValueError):
            return None
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # After the open: from here on the descriptor and the number name the same process.
            if shim.start_ticks(pid) == start and not _readable(pidfd):
                return cls(pid, pidfd)
        os.close(pidfd)
        return None

    async def ended(self) -> None:
        """Return once the process has ended."""
        await asyncio.shield(self._ended)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._pidfd >= 0 and not _readable(self._pidfd)

    def send(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._ended.cancel()

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        with contextlib.suppress(ChildProcessError):  # adopted: somebody else's child
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if not self._ended.done():
            self._ended.set_result(None)


class ProcessDriver:
    """Starts `RUNTIME run` under a shim; `runtime` is another command where a test brings its own."""

    name = "process"

    def __init__(self, runtime: tuple[str, ...] = RUNTIME) -> None:
        self._runtime = runtime

    async def start(self, launch: Launch) -> ProcessHandle:
        """Start the shim and wait until it has noted whom it started."""
        spec = str(launch.workspace / "spec.json")
        command = [*self._runtime, "run", spec, "--workspace", str(launch.workspace)]
        command += ["--artifacts", str(launch.artifacts), *(["--bind"] if launch.bind else [])]
        shim_pid = _spawn_shim(launch, command)
        shim_watch = PidWatch(shim_pid, os.pidfd_open(shim_pid))
        try:
            async with asyncio.timeout(SPAWN_S):
                return await _identified(launch.workspace, shim_watch)
        except TimeoutError:
            shim_watch.send(signal.SIGKILL)
            shim_watch.close()
            sentence = f"its shim did not say within {SPAWN_S:g} s whom it started"
            raise FoglineError(ErrorKind.FAILED, sentence) from None
        except BaseException:
            shim_watch.close()
            raise

    async def adopt(self, workspace: Path) -> ProcessHandle | None:
        """The stage of this workspace if it is the very process that the shim noted in this boot."""
        if not workspace.is_dir() or not await _shim_has_spoken(workspace):
            return None
        noted = read_json(workspace / "shim.json")
        if not noted or noted.get("boot_id") != boot_id():
            return None
        stage = PidWatch.of(int(noted["pid"]), int(noted["start"]))
        if stage is None:
            return None
        shim_watch = PidWatch.of(int(noted["shim_pid"]), int(noted["shim_start"]))
        return ProcessHandle(workspace, stage.pid, stage, shim_watch)


def _spawn_shim(launch: Launch, command: list[str]) -> int:
    lock = _lock(launch.workspace)
    try:
        log = str(launch.workspace / "stage.log")
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, lock, shim.LOCK),
        ]
        argv = [sys.executable, "-I", "-S", shim.__file__, str(launch.workspace), *command]
        environment = dict(os.environ) | launch.environment
        return os.posix_spawn(sys.executable, argv, environment, file_actions=actions, setsid=True, setsigmask=[])
    except OSError as error:
        raise FoglineError(ErrorKind.FAILED, f"the process cannot be started: {error}") from error
    finally:
        os.close(lock)


def _lock(workspace: Path) -> int:
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
        noted = read_json(workspace / "shim.json")
        if noted:
            stage = PidWatch.of(int(noted["pid"]), int(noted["start"]))
            return ProcessHandle(workspace, int(noted["pid"]), stage, shim_watch)
        if gone:
            raise FoglineError(ErrorKind.FAILED, f"the process did not start; see {workspace / 'stage.log'}")
        await asyncio.sleep(_LOOK_S)


async def _shim_has_spoken(workspace: Path) -> bool:
    """Whether `shim.json` is there; waits for a shim that an earlier agent had only just started."""
    for _ in range(int(SPAWN_S / _LOOK_S)):
        if (workspace / "shim.json").exists():
            return True
        try:
            os.close(_lock(workspace))
        except FoglineError:  # a shim lives and will speak
            await asyncio.sleep(_LOOK_S)
        else:
            return (workspace / "shim.json").exists()
    return False


def _readable(pidfd: int) -> bool:
    """A pidfd becomes readable when its process has ended."""
    return bool(select.select([pidfd], [], [], 0)[0])
