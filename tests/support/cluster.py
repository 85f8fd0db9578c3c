"""The real thing for end-to-end tests: coordinator, agents and `coord` as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fogline.coordinator.cli.client import connect
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.terms import FoglineError
from support.mosquitto import free_port

BIN = Path(sys.executable).parent
WAIT_S = 30.0
AGENT = ("fogline-agent",)
LOOPBACK = "127.0.0.1"
LAYERS = {"edge_node": "edge", "cloud_1": "fog", "cloud_2": "cloud"}


def wait_for(what: str, check: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """The first truthy answer of `check`; fails the test with `what` when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Process:
    """A long-running command; its output goes to a log file."""

    def __init__(self, name: str, folder: Path, *argv: str, env: dict[str, str] | None = None) -> None:
        self.log_path = folder / f"{name}.log"
        self._argv = [str(BIN / argv[0]), *argv[1:]]
        self._env = {**os.environ, **(env or {})}
        self.start()

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def running(self) -> bool:
        return self._process.poll() is None

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send the signal and wait; returns the exit code."""
        if self.running():
            self._process.send_signal(how)
        return self._process.wait(seconds)


class Cluster:
    """One coordinator and any number of agents, on loopback or another address of this machine."""

    def __init__(self, folder: Path, host: str = LOOPBACK) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = f"{host}:{free_port()}"
        self.agents: dict[str, Process] = {}
        self._consent = () if host == LOOPBACK else ("--insecure",)
        """What every program must be told that talks to a coordinator elsewhere."""
        state = ("--state-dir", str(folder / "coordinator"))
        self._serve = ["coord", "serve", "--listen", self.address, *state, *self._consent]
        self.coordinator = Process("coordinator", folder, *self._serve)

    def start_agents(
        self,
        *names: str,
        program: Sequence[str] = AGENT,
        env: dict[str, str] | None = None,
        labels: Mapping[str, str] = MappingProxyType({}),
        environments: str = "own",
        flags: Sequence[str] = (),
    ) -> None:
        """Start agents (tied to nobody) and wait until they are connected."""
        given = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        for name in names:
            state = ["--state-dir", str(self.folder / name), "--layer", LAYERS.get(name, "edge")]
            argv = [*program, "run", "--coordinator", self.address, "--name", name, *state, *given, *self._consent]
            argv += ["--environments", environments, *flags]
            self.agents[name] = Process(name, self.folder, *argv, env=env)
        wait_for(f"{names} connected", lambda: set(names) <= self.connected())

    def connected(self) -> set[str]:
        """Names of the connected nodes."""
        try:
            with connect(self.address, insecure=bool(self._consent)) as stub:
                nodes = stub.ListNodes(operator.ListNodesRequest(), timeout=WAIT_S).nodes
        except FoglineError:
            assert self.coordinator.running(), self.coordinator.log
            return set()
        return {node.facts.name for node in nodes if node.state == "connected"}

    def coord(
        self, *arguments: str, check: bool = True, input_: str | None = None, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run one `coord` command against this coordinator."""
        done = subprocess.run(
            [str(BIN / "coord"), *arguments, *self._consent],
            env={**os.environ, "FOGLINE_COORDINATOR": self.address},
            input=input_,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"coord {' '.join(arguments)}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def status(self, id_: str) -> dict[str, Any]:
        """`coord status --output json`."""
        found: dict[str, Any] = json.loads(self.coord("status", id_, "--output", "json").stdout)
        return found

    def stage(self, id_: str, name: str) -> dict[str, Any]:
        """One row of the status."""
        return next(row for row in self.status(id_)["stages"] if row["name"] == name)

    def logs(self) -> str:
        """Everything the daemons said, for a failing test."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in self.folder.glob("*.log")
        )

    def close(self) -> None:
        """Delete every deployment, then end every process."""
        if self.coordinator.running():
            listed = self.coord("list", "--output", "json", check=False)
            for each in json.loads(listed.stdout) if listed.returncode == 0 else []:
                self.coord("delete", each["id"], check=False)
        for process in (*self.agents.values(), self.coordinator):
            process.end()


@contextmanager
def cluster(
    folder: Path, *agents: str, host: str = LOOPBACK, programs: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Iterator[Cluster]:
    """A running cluster, gone afterwards. `programs`: agents that are started by another command."""
    running = Cluster(folder, host)
    try:
        running.start_agents(*(name for name in agents if name not in programs))
        for name, program in programs.items():
            running.start_agents(name, program=program)
        yield running
    finally:
        running.close()


def write_code(folder: Path, source: str) -> Path:
    """A code folder with this `main.py`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(source)
    return folder


def write_json(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(value))
    return path
