"""Specs written in a line, a segment as a real process, and the agent's end of its control socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from fogline.runtimes.spec import BatchSpec, EndpointSpec, SegmentSpec, StageSpec

COMMAND = (sys.executable, "-m", "fogline.runtimes")
DEADLINE_S = 20.0


def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Poll until the condition holds and return what it returned."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {deadline_s} s: {what}")


def holds(condition: Callable[[], Any], for_s: float) -> None:
    """Assert that something stays true for as long: for what must not happen."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        assert condition()
        time.sleep(0.01)


def code_stage(name: str, folder: Path, reads: str, writes: str = "", **options: Any) -> StageSpec:
    """A code stage run from its folder in place."""
    outputs = tuple(writes.split()) if writes else ()
    return StageSpec(name, "code", tuple(reads.split()), outputs, path=str(folder), options=options)


def write_code(folder: Path, source: str, file: str = "main.py") -> Path:
    """The folder, holding one file of code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(source)
    return folder


def mqtt_end(queue: str, stage: str, port: int, **more: Any) -> EndpointSpec:
    """One end of an MQTT queue on the loopback, its topic named after the queue."""
    options = {"server": "127.0.0.1", "port": port, "topic": f"t/{queue}"} | more.pop("options", {})
    return EndpointSpec(queue, stage, "mqtt", options, f"fogline.test.p.{stage}.{queue}.0", **more)


def websocket_end(queue: str, stage: str, port: int, **more: Any) -> EndpointSpec:
    """One end of a WebSocket queue on the loopback, its path named after the queue."""
    options = {"server": "127.0.0.1", "port": port, "topic": f"t/{queue}"} | more.pop("options", {})
    return EndpointSpec(queue, stage, "websocket", options, f"fogline.test.p.{stage}.{queue}.0", **more)


def segment(
    *stages: StageSpec,
    sources: tuple[EndpointSpec, ...] = (),
    sinks: tuple[EndpointSpec, ...] = (),
    max_size: int = 256,
) -> SegmentSpec:
    """A spec with everything that does not matter filled in."""
    batch = BatchSpec(max_size)
    return SegmentSpec("p", stages[0].name, "0", "a", "test", stages, sources, sinks, batch)


class Control:
    """One connection to a control socket."""

    def __init__(self, workspace: Path) -> None:
        folder = os.open(workspace, os.O_PATH)
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(DEADLINE_S)
        try:
            self._sock.connect(f"/proc/self/fd/{folder}/control.sock")
        except OSError:
            self._sock.close()
            raise
        finally:
            os.close(folder)
        self._file = self._sock.makefile("rw")

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def ask(self, op: str, **more: Any) -> dict[str, Any]:
        self.tell({"op": op, "id": op, **more})
        return self.line()

    def tell(self, request: Any) -> None:
        self._file.write((request if isinstance(request, str) else json.dumps(request)) + "\n")
        self._file.flush()

    def line(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._file.readline())
        return answer


class RunningSegment:
    """`with RunningSegment(spec, folder) as process:` runs it as the agent would; killed at the end."""

    def __init__(
        self,
        spec: SegmentSpec,
        folder: Path,
        *,
        bind: bool = True,
        python: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`python`: another one than that of the tests, with its environment variables."""
        self.folder = folder
        self._env = env
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.json").write_bytes(spec.to_bytes())
        (folder / "nonce").write_text("nonce-of-the-test")
        program = [str(python), *COMMAND[1:]] if python else COMMAND
        command = [*program, "run", str(folder / "spec.json"), "--workspace", str(folder)]
        self._command = [*command, "--artifacts", str(folder), *(["--bind"] if bind else [])]

    def __enter__(self) -> RunningSegment:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._env)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def ask(self, op: str, **more: Any) -> dict[str, Any]:
        with Control(self.folder) as control:
            return control.ask(op, **more)

    def until(self, state: str) -> RunningSegment:
        """Wait for a state; a process that ends meanwhile is an error that shows its log."""
        wait_until(lambda: self._state() == state, f"state {state}")
        return self

    def counters(self, stage: str) -> dict[str, int]:
        stages = {each["name"]: each["counters"] for each in self.ask("status")["stages"]}
        found: dict[str, int] = stages[stage]
        return found

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def failure(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "failure.json").read_text())
        return found

    def _state(self) -> str:
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
        try:
            return str(self.ask("status")["state"])
        except (FileNotFoundError, ConnectionRefusedError):
            return ""


def command(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """`python -m fogline.runtimes ...` to its end."""
    argv = [*COMMAND, *map(str, arguments)]
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=DEADLINE_S, check=False)
