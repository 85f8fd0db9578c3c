"""Steps that tests of the coordinator's services share: upload, submit, obey, wait."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase, Want
from fogline.coordinator.store.sql import DesiredLine, Store
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.terms import Wanted
from support.documents import a_pipeline
from support.fake_agent import FakeAgent, Served, joined
from support.obedience import as_wanted

WAIT_S = 25.0
"""A command that a test starts takes its time on a busy machine."""
CODE = b"code"
DIGEST = hashlib.sha256(CODE).hexdigest()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run an asynchronous test to its end, within 55 s."""
    asyncio.run(asyncio.wait_for(test, 55.0))


async def until(what: str, check: Callable[[], Any]) -> None:
    """Wait for a condition; fails the test with `what`."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not check():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


async def upload(service: Served, data: bytes) -> str:
    """Put a blob into the coordinator's store; returns its digest."""
    digest = hashlib.sha256(data).hexdigest()

    async def pieces() -> AsyncIterator[operator.UploadArtifactRequest]:
        yield operator.UploadArtifactRequest(digest=digest)
        yield operator.UploadArtifactRequest(data=data)

    await service.operator.UploadArtifact(pieces())
    return digest


def a_request(code: str = DIGEST, **changes: Any) -> operator.SubmitRequest:
    """A submit of the pipeline `p`: stages a, b and c, one segment each."""
    document = json.dumps(a_pipeline(**changes)).encode()
    return operator.SubmitRequest(document=document, artifacts=dict.fromkeys("abc", code))


async def submit(service: Served, **changes: Any) -> operator.SubmitReply:
    """Upload the code and submit the pipeline `p`."""
    await upload(service, CODE)
    reply: operator.SubmitReply = await service.operator.Submit(a_request(**changes))
    return reply


@asynccontextmanager
async def obedient(address: str, name: str, node: Mapping[str, Any] = MappingProxyType({})) -> AsyncIterator[FakeAgent]:
    """An agent with an open session that does at once what it is told, until the end."""
    async with joined(address, name, node) as fake:
        await fake.observe()
        obeying = asyncio.create_task(_obey(fake))
        try:
            yield fake
        finally:
            obeying.cancel()
            await asyncio.gather(obeying, return_exceptions=True)


async def _obey(fake: FakeAgent) -> None:
    """Never cancelled but at the end: whoever is cancelled while reading takes the session with it."""
    while (message := await fake.call.read()) is not grpc.aio.EOF:
        if message.HasField("open_requests"):
            fake.requests_wanted.set()
        if not message.HasField("desired"):
            continue
        await fake.observe(*as_wanted(message.desired), generation=message.desired.generation)


async def verdict(service: Served, number: int) -> Outcome:
    """The verdict on a revision of `p`, once there is one."""
    await until("a verdict", lambda: service.deployments.outcome("p", number))
    outcome = service.deployments.outcome("p", number)
    assert outcome is not None
    return outcome


async def brought_up(service: Served, **changes: Any) -> int:
    """Submit and wait until it runs; returns the number of the revision."""
    number = (await submit(service, **changes)).revision
    assert (await verdict(service, number)).succeeded
    return number


async def requests_of(fake: FakeAgent) -> Any:
    """The second stream, opened as soon as the coordinator wants it; read requests from it, write replies."""
    async with asyncio.timeout(WAIT_S):
        await fake.requests_wanted.wait()
    fake.requests_wanted.clear()
    return fake.stub.Requests(metadata=(("fogline-node", fake.name),))


async def answer_requests(
    fake: FakeAgent, answer: Callable[[agent.NodeRequest], list[agent.NodeReply]], count: int = 1
) -> list[agent.NodeRequest]:
    """Open the second stream when told to and answer so many requests; returns them."""
    call = await requests_of(fake)
    asked: list[agent.NodeRequest] = []
    while len(asked) < count:
        request = await call.read()
        assert isinstance(request, agent.NodeRequest)
        asked.append(request)
        replies = answer(request)
        for seq, reply in enumerate(replies):
            reply.id, reply.seq, reply.last = request.id, seq, seq == len(replies) - 1
            await call.write(reply)
    await call.done_writing()
    return asked


def ran_on(folder: Path, *nodes: str) -> None:
    """A stopped deployment `p` that once had a copy on each of these nodes."""
    store = Store(f"sqlite:///{folder / 'state.db'}")
    number = store.add_revision("p", b"{}", {}, {})
    for node in nodes:
        store.save_node(node, b"", "0.1.0")
        copy = Copy("p/a/0/a", "d1", node, "a", 0)
        line = DesiredLine(copy, "p", number, Want(Wanted.STOPPED), 1)
        store.commit(Deployment("p", number, Phase.STOPPED, 0.0), [line], {}, [])
    store.commit(Deployment("p", number, Phase.STOPPED, 0.0), [], {}, [])
    store.close()
