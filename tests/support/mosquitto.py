"""A real mosquitto for one test, on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
from pathlib import Path

from support.server import Server

BINARY = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
QUIET = ("log_type none", "log_type error", "log_type warning", "log_type notice")
"""For `extra`: a line per packet costs the broker more than the packet."""


def free_port() -> int:
    """A TCP port that is free on the loopback, below those the kernel gives to clients.

    A server that is stopped and started again on its port would otherwise now and then find it taken: by
    a client that dials, even by one that dials this very port. Test runs beside one another pick different ones.
    """
    first = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    step = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = random.randrange(20_000 + first, 32_000, step)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Mosquitto(Server):
    """`with Mosquitto(folder) as broker:` starts it and stops it; `restart` keeps port and persistence.

    The options are those every mosquitto of Fogline has: nothing is dropped silently, and the
    store survives a restart. `extra` adds lines to the configuration of one test.
    """

    program, start_timeout_s, stop_timeout_s = "mosquitto", 10.0, 10.0

    def __init__(self, folder: Path, *, port: int | None = None, extra: tuple[str, ...] = ()) -> None:
        super().__init__(folder)
        self.port = port or free_port()
        self._extra = extra

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the broker and return when it accepts connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(self._settings()) + "\n")
        self._spawn([BINARY, "-c", str(config)])
        self._wait_until(self._accepts)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _settings(self) -> list[str]:
        return [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_interval 30",
            "max_queued_messages 0",
            "max_queued_bytes 0",
            "set_tcp_nodelay true",
            "user root",
            "log_dest stdout",
            "log_type all",
            *self._extra,
        ]
