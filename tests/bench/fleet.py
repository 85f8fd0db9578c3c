"""A coordinator with a thousand connected agents: memory for each, and how fast one change reaches all.

The agents are simulated, a session over a connection of its own each, in two child processes. The change
is what an operator can do: one document has a stage pinned to every node, and is restarted as a whole.
The budget is for agents that take as long as a process needs to start before they report. The other row has
them report at once, which on one machine takes the processors from the push.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import grpc

from bench.process_figures import resident_bytes
from bench.rows import Row, measured
from bench.simulated import name_of
from bench.size import Size
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage

CHILDREN = 2
TESTS = Path(__file__).parents[1]
ID = "everywhere"
WITHIN_S = 60.0
START_S = 0.5
"""A process needs about that."""
KB = 2**10


def rows(folder: Path, size: Size) -> list[Row]:
    """Memory per agent, then the push."""
    running = Cluster(folder)
    try:
        with grpc.insecure_channel(running.address) as channel, ExitStack() as stack:
            stub = operator_grpc.OperatorCoordinatorStub(channel)
            stub.ListNodes(operator.ListNodesRequest(), timeout=WITHIN_S, wait_for_ready=True)
            before = resident_bytes(running.coordinator.pid)
            children = [
                stack.enter_context(_agents(running, first, size.agents // CHILDREN))
                for first in range(0, size.agents, size.agents // CHILDREN)
            ]
            wait_for("all connected", lambda: _connected(stub) == size.agents, WITHIN_S)
            per_agent = (resident_bytes(running.coordinator.pid) - before) / size.agents
            _submit(folder, running, stub, size.agents)
            pushes_ms = _pushes_ms(stub, children, size.rounds, START_S)
            answered_ms = _pushes_ms(stub, children, size.rounds, 0.0)
    finally:
        running.coordinator.end()
    what = f"coordinator with {size.agents} connected agents"
    return [
        measured(f"{what}: resident memory (Rss) for each", per_agent / KB, "kB", "<= 60 kB"),
        measured(f"{what}: a restart pushed to all", median(pushes_ms), "ms", "<= 250 ms"),
        measured(f"{what}: the same, all report at once", median(answered_ms), "ms"),
    ]


def _submit(folder: Path, running: Cluster, stub: operator_grpc.OperatorCoordinatorStub, agents: int) -> None:
    """One document with a stage on every node, brought to running."""
    write_code(folder / "code", "def handler(data):\n    return data\n")
    names = [name_of(number) for number in range(agents)]
    document = {
        "version": "1.0",
        "id": ID,
        "pipeline": {name: a_stage(f"in-{name}", f"out-{name}", infra=name) for name in names},
        "queues": {f"{end}-{name}": a_queue(f"{end}/{name}") for name in names for end in ("in", "out")},
        "infra": {name: {} for name in names},
    }
    running.coord("submit", str(write_json(folder / f"{ID}.json", document)), "--detach")
    wait_for("running", lambda: _phase(stub) == "running", WITHIN_S)


def _pushes_ms(
    stub: operator_grpc.OperatorCoordinatorStub, children: list[subprocess.Popen[str]], rounds: int, takes_s: float
) -> list[float]:
    """One push after another, to agents that report `takes_s` after they were told."""
    return [_push_ms(stub, children, takes_s) for _ in range(rounds)]


def _push_ms(
    stub: operator_grpc.OperatorCoordinatorStub, children: list[subprocess.Popen[str]], takes_s: float
) -> float:
    """From the call until the last agent has its snapshot."""
    for child in children:
        _told(child, f"mark {takes_s}")
    began_s = time.monotonic()
    stub.Restart(operator.RestartRequest(id=ID), timeout=WITHIN_S)
    received: list[float] = wait_for("every agent has it", lambda: _received_s(children), WITHIN_S)
    wait_for("running again", lambda: _phase(stub) == "running", WITHIN_S)
    return (max(received) - began_s) * 1000


def _received_s(children: list[subprocess.Popen[str]]) -> list[float]:
    times = [at for child in children for at in json.loads(_told(child, "report")).values()]
    return [] if None in times else times


def _phase(stub: operator_grpc.OperatorCoordinatorStub) -> str:
    return stub.Status(operator.StatusRequest(id=ID), timeout=WITHIN_S).state


def _connected(stub: operator_grpc.OperatorCoordinatorStub) -> int:
    nodes = stub.ListNodes(operator.ListNodesRequest(), timeout=WITHIN_S).nodes
    return sum(node.state == "connected" for node in nodes)


@contextmanager
def _agents(running: Cluster, first: int, count: int) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "bench.simulated", running.address, str(first), str(count)]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with (running.folder / f"agents-{first}.log").open("wb") as log:
        child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
    try:
        assert child.stdout is not None
        said = child.stdout.readline()
        if said != "joined\n":
            raise RuntimeError(f"agents from {first} did not join: {Path(log.name).read_text()[-2000:]}")
        yield child
    finally:
        child.kill()
        child.wait()


def _told(child: subprocess.Popen[str], command: str) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{command}\n")
    child.stdin.flush()
    return child.stdout.readline()
