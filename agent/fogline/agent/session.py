"""The one conversation with the coordinator: dial out, say hello, beat, observe, receive, and again.

::

    away --dial, hello, welcome--> connected --stream ends, silence--> away (0.2 s .. 5 s, for ever)
     ^                                 |
     +------- other cluster, other version: say so, try again slowly

A desired state is stored before it is acted on, and what runs never depends on being connected.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from fogline.agent import translate
from fogline.agent.link import Link, really_cancelled
from fogline.agent.requests import Requests
from fogline.agent.supervisor import Supervisor
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire import version
from fogline.wire.errors import from_rpc
from fogline.wire.terms import ErrorKind, FoglineError

if TYPE_CHECKING:
    from fogline.v1.agent_coordinator_pb2_grpc import AgentCoordinatorAsyncStub

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
REFUSED_DELAY_S = 15.0
"""Between attempts that only a person can make succeed."""
WELCOME_S = 10.0
DEBOUNCE_S = 0.05
ADOPT_MARK = "adopt"
"""File in the state folder by which `fogline-agent adopt` reaches an agent, running or not."""

_FOR_A_PERSON = {
    ErrorKind.OTHER_CLUSTER,
    ErrorKind.VERSION_MISMATCH,
    ErrorKind.CONFLICT,
    ErrorKind.INVALID_ARGUMENT,
}

Call = Any  # grpc.aio.StreamStreamCall[AgentMessage, CoordinatorMessage]; generic in its stubs only


class Session:
    """Keeps the node connected, for ever."""

    def __init__(
        self,
        link: Link,
        facts: common.NodeFacts,
        supervisor: Supervisor,
        requests: Requests,
        state_dir: Path,
        refused_delay_s: float = REFUSED_DELAY_S,
    ) -> None:
        self._link = link
        self._facts = facts
        self._supervisor = supervisor
        self._requests = requests
        self._state_dir = state_dir
        self._refused_delay_s = refused_delay_s
        self._delay_s = FIRST_DELAY_S
        self._last_complaint = ""

    async def run(self) -> None:
        """Converse, and begin again whenever the conversation ends; until cancelled."""
        while True:
            refused = False
            try:
                self._obey_adoption()
                async with self._link.dial() as stub:
                    await self._converse(stub)
            except FoglineError as error:
                refused = error.kind in _FOR_A_PERSON
                self._complain(error.sentence)
            await self._pause(refused=refused)

    async def _converse(self, stub: AgentCoordinatorAsyncStub) -> None:
        """One stream from hello to its end, which is always a FoglineError."""
        call = stub.Session()
        stream = _Stream(call, self._link.coordinator)
        try:
            heartbeat_s = await self._join(stream)
            self._link.up(stub)
            tasks = [
                asyncio.create_task(doing)
                for doing in (
                    self._receive(stream, stub),
                    self._beat(stream, heartbeat_s),
                    self._report(stream),
                )
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await done.pop()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._link.down()
            await self._requests.close()
            call.cancel()

    async def _join(self, stream: _Stream) -> float:
        """Hello and welcome; returns the seconds between heartbeats. Raises FoglineError when refused."""
        known = self._supervisor.membership()
        hello = agent.Hello(
            protocol=version.PROTOCOL,
            release=version.release(),
            facts=self._facts,
            cluster_id=known.cluster_id,
            epoch=known.epoch,
            generation=known.generation,
        )
        try:
            async with asyncio.timeout(WELCOME_S):
                await stream.write(agent.AgentMessage(hello=hello))
                welcome = (await stream.read()).welcome
        except TimeoutError:
            where = self._link.coordinator
            raise FoglineError(ErrorKind.DEADLINE, f"{where} said no welcome within {WELCOME_S:g} s") from None
        version.check_peer("the coordinator", welcome.protocol, welcome.release)
        if not known.cluster_id:
            self._supervisor.join(welcome.cluster_id)
        elif welcome.cluster_id != known.cluster_id:
            raise FoglineError(
                ErrorKind.OTHER_CLUSTER,
                f"the coordinator at {self._link.coordinator} is cluster {welcome.cluster_id[:8]}, this node "
                f"belongs to {known.cluster_id[:8]}; what runs here goes on. To move the node: "
                f"fogline-agent adopt --state-dir {self._state_dir}",
            )
        log.info("connected to %s, cluster %s", self._link.coordinator, welcome.cluster_id[:8])
        self._delay_s, self._last_complaint = FIRST_DELAY_S, ""
        return max(0.1, welcome.heartbeat_s)

    async def _receive(self, stream: _Stream, stub: AgentCoordinatorAsyncStub) -> None:
        while True:
            message = await stream.read()
            if message.HasField("desired"):
                self._accept(message.desired)
            elif message.HasField("open_requests"):
                self._requests.open(stub)

    def _accept(self, message: agent.DesiredState) -> None:
        number = f"{message.epoch}.{message.generation}"
        if message.cluster_id != self._supervisor.membership().cluster_id:
            log.error("desired state %s is of cluster %s: refused", number, message.cluster_id[:8])
            return
        try:
            self._supervisor.accept(translate.desired(message))
        except FoglineError as error:
            log.error("%s", error.sentence)
        else:
            log.info("desired state %s: %d assignments", number, len(message.assignments))

    async def _beat(self, stream: _Stream, heartbeat_s: float) -> None:
        while True:
            await asyncio.sleep(heartbeat_s * random.uniform(0.8, 1.2))  # noqa: S311  # spreads the load
            await stream.write(agent.AgentMessage(heartbeat=agent.Heartbeat()))
            await self._observe(stream)

    async def _report(self, stream: _Stream) -> None:
        """The first observation tells the coordinator what this node has; then one for every change."""
        while True:
            self._supervisor.changed.clear()
            await self._observe(stream)
            await self._supervisor.changed.wait()
            await asyncio.sleep(DEBOUNCE_S)

    async def _observe(self, stream: _Stream) -> None:
        observation = translate.observation(self._supervisor.observation())
        await stream.write(agent.AgentMessage(observation=observation))

    def _obey_adoption(self) -> None:
        mark = self._state_dir / ADOPT_MARK
        if mark.exists():
            log.info("told to accept another cluster")
            self._supervisor.join("")
            mark.unlink()

    def _complain(self, sentence: str) -> None:
        """Once per reason, not once per attempt."""
        if sentence != self._last_complaint:
            log.warning("%s", sentence)
        self._last_complaint = sentence

    async def _pause(self, *, refused: bool) -> None:
        delay_s = self._refused_delay_s if refused else self._delay_s
        self._delay_s = min(LONGEST_DELAY_S, self._delay_s * 2)
        again_at_s = asyncio.get_running_loop().time() + delay_s * random.uniform(0.8, 1.2)  # noqa: S311
        mark = self._state_dir / ADOPT_MARK
        while (left_s := again_at_s - asyncio.get_running_loop().time()) > 0 and not mark.exists():
            await asyncio.sleep(min(left_s, 0.5))


class _Stream:
    """The Session call, with every way it can end turned into a FoglineError."""

    def __init__(self, call: Call, peer: str) -> None:
        self._call = call
        self._peer = peer
        self._writing = asyncio.Lock()

    async def write(self, message: agent.AgentMessage) -> None:
        async with self._writing:  # two writes at once are an error of the library
            await self._outcome(self._call.write(message))

    async def read(self) -> agent.CoordinatorMessage:
        message = await self._outcome(self._call.read())
        if isinstance(message, agent.CoordinatorMessage):
            return message
        raise self._ended()

    async def _outcome(self, doing: Awaitable[Any]) -> Any:
        try:
            return await doing
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self._peer) from error
        except asyncio.InvalidStateError as error:
            raise self._ended() from error
        except asyncio.CancelledError:
            if really_cancelled():
                raise
            raise self._ended() from None

    def _ended(self) -> FoglineError:
        return FoglineError(ErrorKind.UNREACHABLE, f"the coordinator at {self._peer} ended the conversation")
