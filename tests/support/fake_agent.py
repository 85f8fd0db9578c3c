"""An agent played by hand against the real coordinator services, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc

from fogline.coordinator.artifacts.store import ArtifactStore
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.service.agents import AgentService
from fogline.coordinator.service.deployments import Deployments
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.operators import OperatorService
from fogline.coordinator.store.sql import Store
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import agent_coordinator_pb2_grpc as agent_grpc
from fogline.v1 import common_pb2 as common
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.version import PROTOCOL
from support.mosquitto import free_port

CLUSTER = "c" * 32
WAIT_S = 5.0


@dataclass
class Served:
    """A coordinator in this event loop."""

    address: str
    store: Store
    fleet: Fleet
    deployments: Deployments
    operator: Any


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    """The coordinator's services on a loopback port, its store in `folder`."""
    store = Store(f"sqlite:///{folder / 'state.db'}")
    fleet = Fleet(store)
    deployments = Deployments(store, fleet, CLUSTER, Wiring("test"))
    artifacts = ArtifactStore(folder / "artifacts")
    server = grpc.aio.server()
    agent_grpc.add_AgentCoordinatorServicer_to_server(AgentService(fleet, deployments, artifacts, CLUSTER), server)
    operators = OperatorService(store, fleet, deployments, artifacts, CLUSTER)
    operator_grpc.add_OperatorCoordinatorServicer_to_server(operators, server)
    address = f"127.0.0.1:{free_port()}"
    server.add_insecure_port(address)
    await server.start()
    wheel = asyncio.create_task(deployments.run())
    async with grpc.aio.insecure_channel(address) as channel:
        yield Served(address, store, fleet, deployments, operator_grpc.OperatorCoordinatorStub(channel))
    wheel.cancel()
    fleet.close()
    await server.stop(0)
    store.close()


class FakeAgent:
    """Says hello, then whatever the test says; collects what it is told."""

    def __init__(
        self, channel: grpc.aio.Channel, name: str, node: Mapping[str, Any] = MappingProxyType({}), **hello: Any
    ) -> None:
        """`node`: what it says of itself besides the usual."""
        self.stub: Any = agent_grpc.AgentCoordinatorStub(channel)
        self.name = name
        usual: dict[str, Any] = {
            "machine_id": name,
            "cpus": 4,
            "memory_bytes": 2**33,
            "drivers": ["process"],
            "layer": "edge",
        }
        facts = common.NodeFacts(name=name, **usual | dict(node))
        self.hello = agent.Hello(protocol=PROTOCOL, release="0.1.0", facts=facts, **hello)
        self.desired: list[agent.DesiredState] = []
        self.call: Any = None
        self.requests: Any = None
        """The second stream, once it was opened."""
        self.requests_wanted = asyncio.Event()

    async def join(self) -> agent.Welcome:
        """Open the session; returns the welcome."""
        self.call = self.stub.Session()
        await self.call.write(agent.AgentMessage(hello=self.hello))
        message = await asyncio.wait_for(self.call.read(), WAIT_S)
        if message is grpc.aio.EOF:
            await self.call.initial_metadata()
            raise AssertionError("the session ended without a word")
        welcome: agent.Welcome = message.welcome
        return welcome

    async def observe(self, *copies: common.CopyObserved, generation: int = 0) -> None:
        """Send a full observation."""
        observation = agent.Observation(copies=copies, generation=generation)
        await self.call.write(agent.AgentMessage(observation=observation))

    async def told(self, wanted: Callable[[agent.CoordinatorMessage], bool]) -> agent.CoordinatorMessage:
        """The next message that `wanted` likes."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self.call.read()
                assert message is not grpc.aio.EOF, await self.call.details()
                if wanted(message):
                    found: agent.CoordinatorMessage = message
                    return found

    async def tell_holdings(self, *held: agent.Assignment) -> None:
        """Wait to be asked what this node holds, and answer."""
        await self.told(lambda message: message.HasField("open_requests"))
        requests = self.stub.Requests(metadata=(("fogline-node", self.name),))
        request = await asyncio.wait_for(requests.read(), WAIT_S)
        assert request.HasField("holdings"), request
        await requests.write(agent.NodeReply(id=request.id, last=True, held=agent.DesiredState(assignments=held)))
        self.requests = requests

    async def obey(self, states: Mapping[Any, Any]) -> agent.DesiredState:
        """Take the next desired state that wants something; observe each copy in the state given for that."""
        desired = (await self.told(lambda message: bool(message.desired.assignments))).desired
        copies = [
            common.CopyObserved(assignment=each.id, spec_digest=each.spec_digest, state=states[each.wanted])
            for each in desired.assignments
            if each.wanted in states
        ]
        await self.observe(*copies, generation=desired.generation)
        return desired


@asynccontextmanager
async def joined(
    address: str, name: str, node: Mapping[str, Any] = MappingProxyType({}), **hello: Any
) -> AsyncIterator[FakeAgent]:
    """An agent with an open session."""
    async with grpc.aio.insecure_channel(address) as channel:
        fake = FakeAgent(channel, name, node, **hello)
        await fake.join()
        yield fake
        fake.call.cancel()
