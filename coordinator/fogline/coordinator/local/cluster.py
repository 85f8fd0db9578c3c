"""A coordinator and agents of one's own on loopback, in a temporary folder that goes with them."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fogline.coordinator.cli.client import CALL_S, connect
from fogline.coordinator.core.fleet import LAST_PORT, OWN
from fogline.coordinator.local.children import Children, answers, command, first_free_port, free_port
from fogline.v1 import operator_coordinator_pb2 as operator


class Interrupted(BaseException):
    """SIGTERM or SIGINT arrived: unwind and clean up."""


@dataclass(frozen=True)
class LocalCluster:
    """A running coordinator with its agents."""

    address: str
    children: Children
    folder: Path
    storing: list[Path] = field(default_factory=list)
    """The state folders of agents that make environments."""

    def start_agent(self, name: str, layer: str, environments: str = OWN) -> None:
        """Start one agent and return; `wait_for_nodes` waits. `environments`: where its stages' packages come from."""
        state = self.folder / name
        if environments != OWN:
            self.storing.append(state)
        arguments = ["run", "--coordinator", self.address, "--name", name, "--layer", layer, "--tied"]
        arguments += ["--environments", environments, "--ports", f"{first_free_port()}-{LAST_PORT}"]
        self.children.start(name, command("fogline.agent.cli", *arguments, "--state-dir", str(state)))

    def wait_for_nodes(self, count: int) -> None:
        """Return once so many nodes are connected."""

        def joined() -> bool:
            with connect(self.address) as stub:
                nodes = stub.ListNodes(operator.ListNodesRequest(), timeout=CALL_S).nodes
            return sum(node.state == "connected" for node in nodes) >= count

        self.children.wait_until(f"{count} connected nodes", joined)

    def end_deployments(self) -> None:
        """Stop every deployment and end its broker sessions, so that nothing is left in anybody's broker, or engine."""
        with connect(self.address) as stub:
            for each in stub.ListDeployments(operator.ListDeploymentsRequest(), timeout=CALL_S).deployments:
                stub.Delete(operator.DeleteRequest(id=each.id))
        for state in self.storing:  # images lie outside their folder
            prune = command("fogline.agent.cli", "prune", "--state-dir", str(state))
            subprocess.run(prune, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """A coordinator under a fresh cluster name, so that nobody else's readers are taken over.

    On the way out the deployments end, then the processes, then the folder.
    """
    with tempfile.TemporaryDirectory(prefix="fogline-") as scratch, interruptible():
        folder = Path(scratch)
        with Children(folder) as children:
            address = f"127.0.0.1:{free_port()}"
            options = ["--listen", address, "--state-dir", str(folder / "coordinator"), "--tied"]
            options += ["--cluster", f"local-{uuid.uuid4().hex[:8]}"]
            children.start("coordinator", command("fogline.coordinator.cli.app", "serve", *options))
            host, port = address.split(":")
            children.wait_until(f"the coordinator on {address}", lambda: answers(host, int(port)))
            cluster = LocalCluster(address, children, folder)
            try:
                yield cluster
            finally:
                cluster.end_deployments()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into Interrupted; further ones do not disturb the cleaning up."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
