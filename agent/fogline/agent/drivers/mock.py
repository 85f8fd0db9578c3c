"""A driver that starts nothing and fails as told: for trying the agent without real processes."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from fogline.agent.drivers.base import Exit, Launch
from fogline.wire.terms import ErrorKind, FoglineError


@dataclass(frozen=True)
class Failures:
    """What goes wrong, and how."""

    refuse_start: str = ""
    """The reason with which every start is refused."""
    ends_at_once: Exit | None = None
    """How every process ends as soon as it was started."""
    ignores_terminate: bool = False
    """Only `kill` ends a process."""


@dataclass
class MockMachine:
    """The processes of a machine that does not exist. They outlive the driver, as real ones do."""

    running: dict[Path, MockHandle] = field(default_factory=dict)
    last_pid: int = 1000


class MockHandle:
    """A process that is only a number."""

    def __init__(self, pid: int, *, ignores_terminate: bool) -> None:
        self.pid = self.known_as = pid
        self.attended = True
        self._ignores_terminate = ignores_terminate
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._started_at_s = time.monotonic()

    @property
    def age_s(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._started_at_s

    async def wait(self) -> Exit:
        """How it ended."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """End it with SIGTERM, unless it was told to ignore that."""
        if not self._ignores_terminate:
            self.end(Exit(signal=signal.SIGTERM))

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.end(Exit(signal=signal.SIGKILL))

    def end(self, how: Exit) -> None:
        """Let it end by itself."""
        if not self._exit.done():
            self._exit.set_result(how)

    def close(self) -> None:
        """Nothing is held."""

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._exit.done()


class MockDriver:
    """Starts MockHandles on a MockMachine."""

    name = "mock"

    def __init__(self, failures: Failures = Failures(), machine: MockMachine | None = None) -> None:
        self.machine = machine or MockMachine()
        self._failures = failures

    async def start(self, launch: Launch) -> MockHandle:
        """Start a process that is only a number, or refuse as told."""
        if self._failures.refuse_start:
            raise FoglineError(ErrorKind.FAILED, self._failures.refuse_start)
        former = self.machine.running.get(launch.workspace)
        if former and former.running:
            raise FoglineError(ErrorKind.CONFLICT, f"a process still runs in {launch.workspace}: not started twice")
        self.machine.last_pid += 1
        handle = MockHandle(self.machine.last_pid, ignores_terminate=self._failures.ignores_terminate)
        self.machine.running[launch.workspace] = handle
        if self._failures.ends_at_once:
            handle.end(self._failures.ends_at_once)
        return handle

    async def adopt(self, workspace: Path) -> MockHandle | None:
        """The process of this workspace if it still runs."""
        handle = self.machine.running.get(workspace)
        return handle if handle and handle.running else None
