"""The conversation with agents, over a real channel: sessions, numbers, requests."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import KIND_KEY
from support.documents import a_pipeline
from support.fake_agent import CLUSTER, WAIT_S, FakeAgent, Served, joined, served

pytestmark = pytest.mark.e2e

OBEDIENT = {
    common.WANTED_PREPARED: common.COPY_STATE_PREPARED,
    common.WANTED_RUNNING: common.COPY_STATE_READY,
}


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30.0))


async def until(what: str, check: Any) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not check():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


CODE = b"code"
DIGEST = hashlib.sha256(CODE).hexdigest()


async def _submit(service: Served) -> operator.SubmitReply:
    await _upload(service, CODE)
    document = json.dumps(a_pipeline()).encode()
    request = operator.SubmitRequest(document=document, artifacts=dict.fromkeys("abc", DIGEST))
    reply: operator.SubmitReply = await service.operator.Submit(request)
    return reply


async def _upload(service: Served, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()

    async def pieces() -> AsyncIterator[operator.UploadArtifactRequest]:
        yield operator.UploadArtifactRequest(digest=digest)
        yield operator.UploadArtifactRequest(data=data)

    await service.operator.UploadArtifact(pieces())
    return digest


async def _brought_up(service: Served, fake: FakeAgent) -> list[set[tuple[Any, bool]]]:
    """Submit and obey until it runs; returns what was wanted (and whether bound), snapshot by snapshot."""
    await fake.observe()
    await _submit(service)
    wanted: list[set[tuple[Any, bool]]] = []
    while not wanted or wanted[-1] != {(common.WANTED_RUNNING, True)}:
        desired = await fake.obey(OBEDIENT)
        wanted.append({(each.wanted, each.bind) for each in desired.assignments})
    await until("running", lambda: service.deployments.get("p").phase == "running")
    return wanted


async def _obey_forever(fake: FakeAgent, states: Mapping[Any, Any]) -> None:
    while True:
        await fake.obey(states)


def test_hello_is_welcomed_and_the_node_is_known(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, grpc.aio.insecure_channel(service.address) as channel:
            fake = FakeAgent(channel, "edge")
            welcome = await fake.join()
            assert (welcome.cluster_id, welcome.heartbeat_s) == (CLUSTER, 10.0)
            assert service.fleet.records["edge"].state == "connected"
            fake.call.cancel()
            await until("suspect", lambda: service.fleet.records["edge"].state == "suspect")

    run(test())


@pytest.mark.parametrize(
    ("hello", "kind", "word"),
    [
        ({"cluster_id": "d" * 32}, "other-cluster", "fogline-agent adopt"),
        ({"protocol": 99}, "version-mismatch", "upgrade this side"),
    ],
)
def test_a_hello_that_cannot_be_served_is_refused(hello: dict[str, Any], kind: str, word: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, grpc.aio.insecure_channel(service.address) as channel:
            fake = FakeAgent(channel, "edge")
            for key, value in hello.items():
                setattr(fake.hello, key, value)
            with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
                await fake.join()
            assert word in await fake.call.details()
            assert dict(await fake.call.trailing_metadata())[KIND_KEY] == kind

    run(test())


def test_a_name_in_use_on_another_machine_is_refused_but_a_reconnect_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            served(tmp_path) as service,
            joined(service.address, "edge"),
            joined(service.address, "edge"),
            grpc.aio.insecure_channel(service.address) as channel,
        ):
            stranger = FakeAgent(channel, "edge")
            stranger.hello.facts.machine_id = "another"
            with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
                await stranger.join()
            assert "choose another --name" in await stranger.call.details()

    run(test())


def test_a_submit_goes_through_both_phases_to_a_verdict(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as fake:
            wanted = await _brought_up(service, fake)
            assert wanted[0] == {(common.WANTED_PREPARED, False)}
            statuses = [each async for each in service.operator.Watch(operator.WatchRequest(id="p", revision=1))]
            assert (statuses[-1].state, statuses[-1].succeeded) == ("running", True)
            assert (await _submit(service)).unchanged

    run(test())


def test_absent_means_gone_only_after_an_answer_to_the_stop(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as fake:
            await _brought_up(service, fake)
            await service.operator.Stop(operator.StopRequest(id="p"))
            await fake.observe(generation=0)
            await asyncio.sleep(0)
            assert service.deployments.get("p").phase == "stopping", "an old answer proves nothing"
            obeying = asyncio.create_task(_obey_forever(fake, {common.WANTED_RUNNING: common.COPY_STATE_READY}))
            await until("stopped", lambda: service.deployments.get("p").phase == "stopped")
            obeying.cancel()

    run(test())


def test_a_restarted_coordinator_goes_on_and_asks_for_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as fake:
            await fake.observe()
            await _submit(service)
            before = await fake.obey(OBEDIENT)
        async with served(tmp_path) as service:
            assert service.deployments.ids() == ["p"]
            hello: dict[str, Any] = {"cluster_id": CLUSTER, "epoch": before.epoch, "generation": before.generation}
            async with joined(service.address, "edge", **hello) as fake:
                await fake.observe(generation=before.generation)
                after = await fake.obey(OBEDIENT)
                assert [each.id for each in after.assignments] == [each.id for each in before.assignments]
                assert (after.epoch, after.generation) >= (before.epoch, before.generation)

    run(test())


def test_a_node_that_saw_later_numbers_raises_the_epoch(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            served(tmp_path) as service,
            joined(service.address, "edge", cluster_id=CLUSTER, epoch=3, generation=17) as fake,
        ):
            await fake.observe(generation=17)
            await fake.tell_holdings()
            desired = (await fake.told(lambda message: message.HasField("desired"))).desired
            assert desired.epoch == 4
            assert service.store.epoch() == 4

    run(test())


def test_a_request_opens_the_second_stream_and_a_lost_node_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as fake:

            async def answer() -> None:
                await fake.told(lambda message: message.HasField("open_requests"))
                requests = fake.stub.Requests(metadata=(("fogline-node", "edge"),))
                first = await requests.read()
                for seq, data in enumerate((b"one\n", b"two\n")):
                    await requests.write(agent.NodeReply(id=first.id, seq=seq, data=data, last=seq == 1))
                assert (await requests.read()).HasField("logs")
                requests.cancel()

            answering = asyncio.create_task(answer())
            logs = agent.NodeRequest(deadline_s=5, logs=agent.Logs(assignment="p/a/0/a", tail_bytes=10))
            assert [reply.data async for reply in service.fleet.ask("edge", logs)] == [b"one\n", b"two\n"]
            with pytest.raises(Exception, match="went away while answering"):
                _ = [reply async for reply in service.fleet.ask("edge", logs)]
            await answering
            with pytest.raises(Exception, match="node mars is not connected"):
                _ = [reply async for reply in service.fleet.ask("mars", logs)]

    run(test())


def test_a_submit_that_lacks_artifacts_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as fake:
            await fake.observe()
            request = operator.SubmitRequest(document=json.dumps(a_pipeline()).encode(), artifacts={"a": DIGEST})
            with pytest.raises(grpc.aio.AioRpcError, match="names no artifact for b, c"):
                await service.operator.Submit(request)
            request.artifacts.update(dict.fromkeys("bc", DIGEST))
            with pytest.raises(grpc.aio.AioRpcError, match="were not uploaded"):
                await service.operator.Submit(request)
            assert service.deployments.ids() == []

    run(test())


@pytest.mark.parametrize("document", [b"", b"[1]", b"{", b"\xff", b'{"id": 3}'])
def test_a_document_that_is_none_is_refused(document: bytes, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.operator.Plan(operator.PlanRequest(document=document))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(test())


def test_a_password_is_not_even_stored_when_a_client_sends_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as fake:
            await fake.observe()
            await _upload(service, CODE)
            infra = {"m": {"hostname": "edge", "sshConfig": {"user": "u", "pass": "hush", "port": 22}}}
            document = json.dumps(a_pipeline(infra=infra)).encode()
            await service.operator.Submit(
                operator.SubmitRequest(document=document, artifacts=dict.fromkeys("abc", DIGEST))
            )
            assert b"hush" not in service.deployments.document("p")
            assert b'"user": "u"' in service.deployments.document("p")
        assert b"hush" not in b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))

    run(test())


def test_an_artifact_is_fetched_from_any_offset(tmp_path: Path) -> None:
    async def test() -> None:
        data = bytes(range(256)) * 1000
        async with served(tmp_path) as service, joined(service.address, "edge") as fake:
            digest = await _upload(service, data)
            call = fake.stub.FetchArtifact(agent.FetchArtifactRequest(digest=digest, offset=1000))
            chunks = [chunk async for chunk in call]
            assert b"".join(chunk.data for chunk in chunks) == data[1000:]
            assert {chunk.total_bytes for chunk in chunks} == {len(data)}

    run(test())
