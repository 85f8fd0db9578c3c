"""Processes that live as long as the command that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from fogline.coordinator.core.fleet import FIRST_PORT, LAST_PORT
from fogline.wire.terms import ErrorKind, FoglineError

STOP_S = 40.0
"""An agent drains its stages before it ends."""
START_S = 20.0
_TICK_S = 0.05


class Children:
    """Starts children in sessions of their own (Ctrl-C reaches only us) and ends them in reverse order."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start a child; its output goes to `<name>.log`."""
        with (self._logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._running.append((name, child))

    def wait_until(self, what: str, ready: Callable[[], bool]) -> None:
        """Poll `ready` until it holds. Raises FoglineError when a child ends first, or after START_S."""
        deadline = time.monotonic() + START_S
        while not ready():
            for name, child in self._running:
                if child.poll() is not None:
                    raise FoglineError(ErrorKind.FAILED, f"{name} ended while starting: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise FoglineError(ErrorKind.DEADLINE, f"{what} was not there after {START_S:g} s")
            time.sleep(_TICK_S)

    def _last_words(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, child in reversed(self._running):
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def command(module: str, *arguments: str) -> list[str]:
    """argv that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def free_port() -> int:
    """A loopback port nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def first_free_port() -> int:
    """Of those that nodes hand out: another cluster's segments may listen on this machine."""
    for port in range(FIRST_PORT, LAST_PORT):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    return LAST_PORT


def answers(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
