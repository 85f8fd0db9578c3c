"""The connection everything shares: one channel per conversation, and artifacts over it while it is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1.agent_coordinator_pb2_grpc import AgentCoordinatorStub
from fogline.wire.channel import CLIENT_OPTIONS
from fogline.wire.errors import from_rpc
from fogline.wire.terms import ErrorKind, FoglineError

if TYPE_CHECKING:
    from fogline.v1.agent_coordinator_pb2_grpc import AgentCoordinatorAsyncStub

CHUNK_S = 30.0
"""An artifact whose next piece takes longer has stalled."""

# A new channel must not inherit the back-off of the one before it: the session has its own.
_OPTIONS = [*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]


class Link:
    """The way to the coordinator, up or down."""

    def __init__(self, coordinator: str) -> None:
        self.coordinator = coordinator
        self._stub: AgentCoordinatorAsyncStub | None = None

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[AgentCoordinatorAsyncStub]:
        """A channel of its own for one conversation."""
        async with grpc.aio.insecure_channel(self.coordinator, options=_OPTIONS) as channel:
            yield AgentCoordinatorStub(channel)

    def up(self, stub: AgentCoordinatorAsyncStub) -> None:
        """The coordinator has welcomed us over this stub."""
        self._stub = stub

    def down(self) -> None:
        """The conversation has ended."""
        self._stub = None

    async def fetch(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        """Pieces of an artifact from `offset` bytes on, each with the whole's size in bytes.

        Raises FoglineError: UNREACHABLE while the link is down or when it goes down, DEADLINE when
        nothing comes any more, and whatever the coordinator refuses with.
        """
        if self._stub is None:
            raise _down()
        call = self._stub.FetchArtifact(agent.FetchArtifactRequest(digest=digest, offset=offset))
        try:
            while chunk := await self._next(call):
                yield chunk.data, chunk.total_bytes
        finally:
            call.cancel()

    async def _next(self, call: Any) -> agent.ArtifactChunk | None:
        try:
            async with asyncio.timeout(CHUNK_S):
                chunk = await call.read()
        except TimeoutError:
            raise FoglineError(ErrorKind.DEADLINE, "the coordinator's artifact has stalled") from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.coordinator) from error
        except asyncio.InvalidStateError as error:
            raise _down() from error
        except asyncio.CancelledError:
            if really_cancelled():
                raise
            raise _down() from None
        return chunk if isinstance(chunk, agent.ArtifactChunk) else None


def really_cancelled() -> bool:
    """Whether somebody cancelled this task; the library ends a call of a closed channel as if they had."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _down() -> FoglineError:
    return FoglineError(ErrorKind.UNREACHABLE, "waiting for the coordinator")
