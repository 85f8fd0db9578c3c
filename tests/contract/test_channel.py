"""The settings both ends share, on a slow line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.channel import CLIENT_OPTIONS, split_address
from support.fake_agent import served

pytestmark = pytest.mark.e2e

SLOW_S = 0.6


class SlowLine:
    """Hands bytes on in both directions, each piece late."""

    def __init__(self, address: str) -> None:
        self._address = split_address(address)
        self._passing = set[asyncio.Task[None]]()

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._address)
        for source, sink in ((reader, back), (there, writer)):
            self._passing.add(asyncio.create_task(_late(source, sink)))


async def _late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            await asyncio.sleep(SLOW_S)
            writer.write(piece)
            await writer.drain()
    finally:
        writer.transport.abort()


def test_a_line_that_needs_a_second_to_connect_is_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            served(tmp_path) as service,
            SlowLine(service.address) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS) as channel,
        ):
            stub = operator_grpc.OperatorCoordinatorStub(channel)
            await stub.ListNodes(operator.ListNodesRequest(), timeout=20.0)

    asyncio.run(asyncio.wait_for(test(), 30.0))
