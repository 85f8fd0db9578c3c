"""What every real server of the tests does alike: one process, its output in a file, ended as asked."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Server:
    """`with` starts it and stops it. What it keeps lies in `folder` and outlives a restart."""

    program: str
    start_timeout_s: float
    stop_timeout_s: float

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.program} is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """SIGTERM: it writes what it keeps and ends."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as when the machine goes away."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop (if it runs) and start again, on the same port with the same data."""
        self.stop()
        self.start()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.program}.log"

    def _spawn(self, arguments: Sequence[str]) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)

    def _wait_until(self, answers: Callable[[], bool]) -> None:
        """Ask until it answers; RuntimeError with its log when it ended, or took too long."""
        assert self._process is not None
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.program} ended with {self._process.returncode}:\n{self.log()}")
            if answers():
                return
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"{self.program} did not answer within {self.start_timeout_s} s:\n{self.log()}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
