"""What the coordinator believes of its nodes. Pure: clocks come in as numbers of seconds.

::

    (never seen) --hello--> connected --stream ends or silent--> suspect --60 s--> disconnected
                                 ^------------------hello---------------------------'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

HEARTBEAT_S = 10.0
SUSPECT_AFTER_S = 30.0
DISCONNECTED_AFTER_S = 60.0

FIRST_PORT, LAST_PORT = 31000, 31999
"""The ports of a node that are handed out, unless its operator says otherwise."""
OWN = "own"
"""The stages of such a node run in the agent's own environment."""
STORE = "store"
"""Those of such a node run in environments of their own, made of what the coordinator's store holds."""


class NodeState(StrEnum):
    """How alive a node is."""

    CONNECTED = "connected"
    SUSPECT = "suspect"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True)
class Node:
    """A machine with an agent, as placement sees it."""

    name: str
    layer: str = "edge"
    labels: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""
    machine_id: str = ""
    os: str = "linux"
    architecture: str = ""
    cpus: float = 0.0
    memory_bytes: int = 0
    drivers: tuple[str, ...] = ("process",)
    frameworks: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    python: str = ""
    libc: str = ""
    environments: str = OWN
    """Where its stages' packages come from."""
    refuses: tuple[str, ...] = ()
    """Kinds of models that its operator does not allow."""
    address: str = ""
    """Where other nodes reach it."""
    first_port: int = FIRST_PORT
    last_port: int = LAST_PORT
    """Of those that are handed out."""
    tls: bool = False
    """It has a certificate, so that what it serves is reached by https."""
    lacks: tuple[str, ...] = ()
    """Extras whose libraries are not in the agent's own environment; an older agent names none."""
    state: NodeState = NodeState.CONNECTED

    @property
    def target(self) -> str:
        """The kind of node that wheels are chosen for, such as `3.11-x86_64-glibc-2.36`; empty: it needs no lock."""
        if self.environments == OWN:
            return ""
        minor = ".".join(self.python.split(".")[:2])
        return f"{minor}-{self.architecture}-{self.libc}"


def node_state(*, connected: bool, silent_s: float) -> NodeState:
    """The lease: an open stream that beats is connected; silence makes suspect, then disconnected."""
    if silent_s >= DISCONNECTED_AFTER_S:
        return NodeState.DISCONNECTED
    if not connected or silent_s >= SUSPECT_AFTER_S:
        return NodeState.SUSPECT
    return NodeState.CONNECTED
