"""Processes by descriptor: a pid alone may have been given to somebody else, and nobody else is ever signalled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time

from fogline.runtimes.container import shim

_ROUNDS = 5
"""A group that still forks while it is ended is looked at again, so often."""


class PidWatch:
    """One process, ours or adopted, by a descriptor that a reused pid cannot fool."""

    def __init__(self, pid: int, pidfd: int, start: int = 0) -> None:
        self.pid = pid
        self._start_s = start / os.sysconf("SC_CLK_TCK")
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._on_end)

    @classmethod
    def of(cls, pid: int, start: int) -> PidWatch | None:
        """Watch `pid` if it is the process that began at `start` ticks and still lives."""
        pidfd = _pidfd_of(pid, start)
        return cls(pid, pidfd, start) if pidfd is not None else None

    @property
    def age_s(self) -> float:
        """Seconds since it was started, where it is known when that was."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self._start_s

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
        """Close the descriptor; the process is not touched."""
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


def is_the_one(pid: int, start: int) -> bool:
    """Whether the process that began at `start` ticks still lives under `pid`."""
    pidfd = _pidfd_of(pid, start)
    if pidfd is None:
        return False
    os.close(pidfd)
    return True


def end_group(group: int, session: int) -> None:
    """SIGKILL to every process of a group, told by its session too from a group that got its number later."""
    for _ in range(_ROUNDS):
        members = [pid for pid in _pids() if _belongs(pid, group, session)]
        if not members:
            return
        for pid in members:
            _end_member(pid, group, session)


def _end_member(pid: int, group: int, session: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with contextlib.suppress(ProcessLookupError):
        if _belongs(pid, group, session):  # asked again: now descriptor and number name the same process
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


def _belongs(pid: int, group: int, session: int) -> bool:
    """Whether it is of the group and session, and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, _, its_group, its_session = file.read().rpartition(b")")[2].split()[:4]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return (int(its_group), int(its_session)) == (group, session) and state != b"Z"


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _pidfd_of(pid: int, start: int) -> int | None:
    try:
        pidfd = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError, OSError):
        return None
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        # After the open: from here on the descriptor and the number name the same process.
        if shim.start_ticks(pid) == start and not _readable(pidfd):
            return pidfd
    os.close(pidfd)
    return None


def _readable(pidfd: int) -> bool:
    """A pidfd becomes readable when its process has ended."""
    return bool(select.select([pidfd], [], [], 0)[0])
