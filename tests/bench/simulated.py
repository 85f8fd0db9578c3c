"""Agents that only talk: many sessions in one process, each over a connection of its own.

    python -m bench.simulated COORDINATOR FIRST COUNT

Each says hello, observes, beats, and becomes what a desired state wants of it. Commands come one a line on
stdin: `mark SECONDS` forgets the snapshots received so far, and lets each agent take that long to become what
it is told from now on; `report` prints when (monotonic seconds) each node had its first snapshot since, as one
JSON object. Prints `joined` when all are.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc

from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import agent_coordinator_pb2_grpc as agent_grpc
from fogline.v1 import common_pb2 as common
from fogline.wire.channel import CLIENT_OPTIONS
from fogline.wire.version import PROTOCOL, release
from support.obedience import as_wanted

DIALLING = 20
"""Sessions that are opened at the same time."""
OPTIONS: list[tuple[str, Any]] = [*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]


def name_of(number: int) -> str:
    """`node-0007`."""
    return f"node-{number:04}"


class Simulated:
    """One agent."""

    def __init__(self, coordinator: str, number: int) -> None:
        self._channel = grpc.aio.insecure_channel(coordinator, options=OPTIONS)
        self.name = name_of(number)
        self.received_s: float | None = None
        """When the first desired state since the last mark had come."""
        self.takes_s = 0.0
        """To become what it is told."""
        self._due = asyncio.Queue[agent.DesiredState]()
        self._writing = asyncio.Lock()

    async def join(self, dialling: asyncio.Semaphore) -> None:
        """Until the coordinator has said welcome and has the first observation."""
        facts = common.NodeFacts(
            name=self.name, hostname=self.name, machine_id=self.name, layer="edge", os="linux", architecture="x86_64",
            cpus=4, memory_bytes=2**33, drivers=["process"], connectors=["mqtt"], frameworks=["onnx"],
        )  # fmt: skip
        async with dialling:
            stub: Any = agent_grpc.AgentCoordinatorStub(self._channel)
            self._call = stub.Session(wait_for_ready=True)
            await self._write(agent.AgentMessage(hello=agent.Hello(protocol=PROTOCOL, release=release(), facts=facts)))
            welcome = (await self._call.read()).welcome
            await self._write(agent.AgentMessage(observation=agent.Observation()))
        self._heartbeat_s: float = welcome.heartbeat_s

    async def live(self) -> None:
        """Beat and obey, for ever."""
        await asyncio.gather(self._beat(), self._obey(), self._answer())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            await self._write(agent.AgentMessage(heartbeat=agent.Heartbeat()))

    async def _obey(self) -> None:
        while True:
            message = await self._call.read()
            if message is grpc.aio.EOF:
                raise ConnectionResetError(f"{self.name}: {await self._call.details()}")
            if message.HasField("desired"):
                self.received_s = self.received_s or time.monotonic()
                asyncio.get_running_loop().call_later(self.takes_s, self._due.put_nowait, message.desired)

    async def _answer(self) -> None:
        while True:
            desired = await self._due.get()
            answer = agent.Observation(copies=as_wanted(desired), epoch=desired.epoch, generation=desired.generation)
            await self._write(agent.AgentMessage(observation=answer))

    async def _write(self, message: agent.AgentMessage) -> None:
        async with self._writing:  # two writes at once are an error of the library
            await self._call.write(message)


async def main(coordinator: str, first: int, count: int) -> None:
    """Join all, then live until stdin ends."""
    fleet = [Simulated(coordinator, number) for number in range(first, first + count)]
    dialling = asyncio.Semaphore(DIALLING)
    await asyncio.gather(*(each.join(dialling) for each in fleet))
    print("joined", flush=True)
    living = asyncio.create_task(_live(fleet))
    commands = asyncio.create_task(_serve(fleet))
    await asyncio.wait({living, commands}, return_when=asyncio.FIRST_COMPLETED)
    if living.done():
        living.result()


async def _live(fleet: list[Simulated]) -> None:
    await asyncio.gather(*(each.live() for each in fleet))


async def _serve(fleet: list[Simulated]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command, *seconds = line.split()
        if command == b"mark":
            for each in fleet:
                each.received_s, each.takes_s = None, float(seconds[0])
            print("marked", flush=True)
        else:
            print(json.dumps({each.name: each.received_s for each in fleet}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
