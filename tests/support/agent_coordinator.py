"""A coordinator in this process that says what a test tells it to, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from fogline.agent.core.desired import Assignment
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import agent_coordinator_pb2_grpc as agent_grpc
from fogline.v1 import common_pb2 as common
from fogline.wire.channel import CHUNK_BYTES, SERVER_OPTIONS
from fogline.wire.errors import answering
from fogline.wire.terms import ErrorKind, FoglineError, Wanted
from support.mosquitto import free_port

_WANTED = {
    Wanted.PREPARED: common.WANTED_PREPARED,
    Wanted.RUNNING: common.WANTED_RUNNING,
    Wanted.STOPPED: common.WANTED_STOPPED,
}


class FakeCoordinator(agent_grpc.AgentCoordinatorServicer):
    """Remembers what it hears; sends what is put into `out` and `asks`."""

    def __init__(self, cluster_id: str = "c1", heartbeat_s: float = 0.2, protocol: int = 1) -> None:
        self.cluster_id = cluster_id
        self.heartbeat_s = heartbeat_s
        self.protocol = protocol
        self.hellos: list[agent.Hello] = []
        self.heartbeats = 0
        self.observations: list[agent.Observation] = []
        self.replies: list[agent.NodeReply] = []
        self.requests_open = 0
        self.requests_opened: list[str] = []
        self.artifacts: dict[str, bytes] = {}
        self.out: asyncio.Queue[agent.CoordinatorMessage | None] = asyncio.Queue()
        """None: hang up."""
        self.asks: asyncio.Queue[agent.NodeRequest] = asyncio.Queue()
        self.address = ""
        self.stalls_at = 0
        """Offset of the piece that is never sent; 0: none."""

    async def Session(
        self, request_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[agent.CoordinatorMessage]:
        self.hellos.append((await anext(aiter(request_iterator))).hello)
        hearing = asyncio.create_task(self._hear(request_iterator))
        try:
            welcome = agent.Welcome(
                cluster_id=self.cluster_id,
                protocol=self.protocol,
                release="0.1.0",
                heartbeat_s=self.heartbeat_s,
            )
            yield agent.CoordinatorMessage(welcome=welcome)
            while (message := await self.out.get()) is not None:
                yield message
        finally:
            hearing.cancel()

    async def _hear(self, messages: Any) -> None:
        async for message in messages:
            if message.HasField("observation"):
                self.observations.append(message.observation)
            self.heartbeats += message.HasField("heartbeat")

    async def Requests(
        self, request_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[agent.NodeRequest]:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        self.requests_opened.append(metadata.get("fogline-node", ""))
        self.requests_open += 1
        hearing = asyncio.create_task(self._hear_replies(request_iterator))
        try:
            while not hearing.done():
                asking = asyncio.create_task(self.asks.get())
                await asyncio.wait({asking, hearing}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    asking.cancel()
                    return
                yield asking.result()
        finally:
            self.requests_open -= 1
            hearing.cancel()

    async def _hear_replies(self, replies: Any) -> None:
        async for reply in replies:
            self.replies.append(reply)

    async def FetchArtifact(
        self, request: agent.FetchArtifactRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[agent.ArtifactChunk]:
        async with answering(context):
            if request.digest not in self.artifacts:
                raise FoglineError(ErrorKind.NOT_FOUND, f"artifact {request.digest[:8]} is not in the store")
            blob = self.artifacts[request.digest]
            for start in range(request.offset, len(blob), CHUNK_BYTES):
                if self.stalls_at and start >= self.stalls_at:
                    await asyncio.sleep(600)
                piece = blob[start : start + CHUNK_BYTES]
                yield agent.ArtifactChunk(data=piece, total_bytes=len(blob))

    def desire(self, generation: int, *wishes: Assignment, epoch: int = 1, cluster_id: str = "") -> None:
        """Send a desired state."""
        assignments = [
            agent.Assignment(
                id=wish.id,
                spec_digest=wish.spec_digest,
                spec=wish.spec,
                wanted=_WANTED[wish.wanted],
                bind=wish.bind,
                revision=wish.revision,
                drain_s=wish.drain_s,
                incarnation=wish.incarnation,
            )
            for wish in wishes
        ]
        desired = agent.DesiredState(
            cluster_id=cluster_id or self.cluster_id,
            epoch=epoch,
            generation=generation,
            assignments=assignments,
        )
        self.out.put_nowait(agent.CoordinatorMessage(desired=desired))

    def ask(self, **request: Any) -> None:
        """Ask the node something, opening the second stream if it is closed."""
        self.asks.put_nowait(agent.NodeRequest(**request))
        if not self.requests_open:
            self.out.put_nowait(agent.CoordinatorMessage(open_requests=agent.OpenRequests()))

    def answers(self, id_: str) -> list[agent.NodeReply]:
        """Every reply to one request so far."""
        return [reply for reply in self.replies if reply.id == id_]

    def answered(self, id_: str) -> Callable[[], bool]:
        """Whether its last reply has come."""
        return lambda: any(reply.last for reply in self.answers(id_))

    @asynccontextmanager
    async def serving(self, address: str = "") -> AsyncIterator[FakeCoordinator]:
        """Serve on a port of its own, or on the one it had."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        agent_grpc.add_AgentCoordinatorServicer_to_server(self, server)
        port = server.add_insecure_port(address or f"127.0.0.1:{free_port()}")
        self.address = f"127.0.0.1:{port}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)
