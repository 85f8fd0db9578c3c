"""A real mosquitto for one test, on a free loopback port."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

BINARY = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
QUIET = ("log_type none", "log_type error", "log_type warning", "log_type notice")
"""For `extra`: a line per packet costs the broker more than the packet."""


def free_port() -> int:
    """A TCP port that is free on the loopback, below those the kernel gives to clients.

    A server that is stopped and started again on its port would otherwise now and then find it taken: by
    a client that dials, even by one that dials this very port.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Mosquitto:
    """`with Mosquitto(folder) as broker:` starts it and stops it; `restart` keeps port and persistence.

    The options are those every mosquitto of Fogline has: nothing is dropped silently, and the
    store survives a restart. `extra` adds lines to the configuration of one test.
    """

    def __init__(self, folder: Path, *, port: int | None = None, extra: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the broker and return when it accepts connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(self._settings()) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, "-c", str(config)], stdout=log, stderr=log)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """SIGTERM: the broker writes its store and ends."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: the broker ends without writing its store."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop (if it runs) and start again on the same port with the same store."""
        self.stop()
        self.start()

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text(errors="replace")

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

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"mosquitto ended with {self._process.returncode}:\n{self.log()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.kill()
        raise RuntimeError(f"mosquitto did not answer within {START_TIMEOUT_S} s:\n{self.log()}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
