"""The gRPC edge towards agents: one Session stream each, a second one for requests, artifacts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc

from fogline.coordinator.artifacts.store import ArtifactStore
from fogline.coordinator.core.fleet import HEARTBEAT_S
from fogline.coordinator.service.deployments import Deployments
from fogline.coordinator.service.fleet import Fleet, NodeRecord
from fogline.coordinator.service.imports import Imports
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import agent_coordinator_pb2_grpc as agent_grpc
from fogline.wire import version
from fogline.wire.channel import CHUNK_BYTES
from fogline.wire.errors import answering
from fogline.wire.terms import NAME, NAME_RULE, ErrorKind, FoglineError

log = logging.getLogger(__name__)

NODE_KEY = "fogline-node"
HELLO_S = 10.0

Context = grpc.aio.ServicerContext[Any, Any]


class AgentService(agent_grpc.AgentCoordinatorServicer):
    """Translate, call, translate back."""

    def __init__(self, fleet: Fleet, deployments: Deployments, artifacts: ArtifactStore, cluster_id: str) -> None:
        self._fleet = fleet
        self._deployments = deployments
        self._artifacts = artifacts
        self._cluster_id = cluster_id
        self._imports = Imports(fleet, deployments)
        self._importing = set[asyncio.Task[None]]()

    async def Session(
        self, request_iterator: AsyncIterator[agent.AgentMessage], context: Context
    ) -> AsyncIterator[agent.CoordinatorMessage]:
        """Hello, then heartbeats and observations in; welcome, then desired states out."""
        async with answering(context):
            record = await self._greet(request_iterator)
            session = record.session
            assert session is not None
            reading = asyncio.create_task(self._read(request_iterator, record))
            reading.add_done_callback(lambda _: record.push.set())
            log.info("node %s connected from %s", record.facts.name, context.peer())
            try:
                welcome = agent.Welcome(
                    cluster_id=self._cluster_id,
                    protocol=version.PROTOCOL,
                    release=version.release(),
                    heartbeat_s=HEARTBEAT_S,
                )
                yield agent.CoordinatorMessage(welcome=welcome)
                while record.session is session and await _signalled(record, reading):
                    for message in self._outgoing(record):
                        yield message
            finally:
                reading.cancel()
                self._fleet.leave(record, session)
                log.info("node %s disconnected", record.facts.name)

    async def _greet(self, messages: AsyncIterator[agent.AgentMessage]) -> NodeRecord:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await anext(aiter(messages))
        except (TimeoutError, StopAsyncIteration):
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, "an agent must say hello first") from None
        hello = first.hello
        version.check_peer(f"node {hello.facts.name}", hello.protocol, hello.release)
        if not NAME.fullmatch(hello.facts.name):
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"{hello.facts.name[:80]!r} is not a node name: {NAME_RULE}")
        if hello.cluster_id and hello.cluster_id != self._cluster_id:
            raise FoglineError(
                ErrorKind.OTHER_CLUSTER,
                f"node {hello.facts.name} belongs to cluster {hello.cluster_id[:8]}, this coordinator is "
                f"{self._cluster_id[:8]}; run `fogline-agent adopt` on the node to move it",
            )
        record = self._fleet.join(hello)
        self._deployments.lines.heard_generation(record, hello.epoch, hello.generation)
        return record

    async def _read(self, messages: AsyncIterator[agent.AgentMessage], record: NodeRecord) -> None:
        async for message in messages:
            first = record.observed_generation < 0
            self._fleet.heard(record, message.observation if message.HasField("observation") else None)
            if first and message.HasField("observation"):
                self._begin(record)

    def _begin(self, record: NodeRecord) -> None:
        """The node has said what it has: tell it what it shall have, after asking what it holds where that is due."""
        if self._imports.due(record):
            record.importing = True
            importing = asyncio.create_task(self._imports.take(record))
            self._importing.add(importing)
            importing.add_done_callback(self._importing.discard)
        record.push.set()

    def _outgoing(self, record: NodeRecord) -> list[agent.CoordinatorMessage]:
        messages = []
        if record.open_requests:
            record.open_requests = False
            messages.append(agent.CoordinatorMessage(open_requests=agent.OpenRequests()))
        # Nothing is desired of a node before it said what it has: only then is "gone" distinguishable.
        told = record.observed_generation >= 0 and not record.importing
        if told and (desired := self._deployments.lines.unsent_desired(record)):
            messages.append(agent.CoordinatorMessage(desired=desired))
        return messages

    async def Requests(
        self, request_iterator: AsyncIterator[agent.NodeReply], context: Context
    ) -> AsyncIterator[agent.NodeRequest]:
        """What is asked of one node, and its replies."""
        async with answering(context):
            metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
            record = self._fleet.records.get(metadata.get(NODE_KEY, ""))
            if record is None or record.session is None:
                raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"open a Session first and name the node in {NODE_KEY}")
            stream = record.requests_stream = object()
            reading = asyncio.create_task(self._read_replies(request_iterator, record))
            try:
                while record.requests_stream is stream:
                    request = await _next_request(record, reading)
                    if request is None:
                        return
                    yield request
            finally:
                reading.cancel()
                self._fleet.requests_closed(record, stream)

    async def _read_replies(self, replies: AsyncIterator[agent.NodeReply], record: NodeRecord) -> None:
        async for reply in replies:
            waiting = self._fleet.replied(record, reply)
            if waiting is not None:
                await waiting.put(reply)

    async def FetchArtifact(
        self, request: agent.FetchArtifactRequest, context: Context
    ) -> AsyncIterator[agent.ArtifactChunk]:
        """A blob from an offset on."""
        async with answering(context):
            total = self._artifacts.size_bytes(request.digest)
            for chunk in self._artifacts.read(request.digest, request.offset, CHUNK_BYTES):
                yield agent.ArtifactChunk(data=chunk, total_bytes=total)


async def _signalled(record: NodeRecord, reading: asyncio.Task[None]) -> bool:
    """Wait until the node has something to be told (True) or its side of the stream ended (False)."""
    if not reading.done():
        await record.push.wait()
    record.push.clear()
    return not reading.done()


async def _next_request(record: NodeRecord, reading: asyncio.Task[None]) -> agent.NodeRequest | None:
    """The next request for the node, or None when its side of the stream ended."""
    getting = asyncio.create_task(record.outgoing.get())
    try:
        await asyncio.wait({getting, reading}, return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else None
    finally:
        getting.cancel()  # a stream that is gone must not take what is meant for the next one
