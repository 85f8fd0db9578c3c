"""Locks over a real channel: found, kept, asked for by submits, and carried by what runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from fogline.coordinator.artifacts.lock import Lock, Wheel
from fogline.coordinator.core.deployment import Phase
from fogline.coordinator.service.status import deployment_status
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import KIND_KEY
from support.conversation import CODE, a_request, obedient, run, until, upload, verdict
from support.documents import a_queue, a_stage
from support.fake_agent import Served, served

pytestmark = pytest.mark.e2e

NODE = {"environments": "store", "python": "3.11.7", "architecture": "x86_64", "libc": "glibc-2.36"}
OTHER = NODE | {"architecture": "aarch64"}
TARGET, OTHER_TARGET = "3.11-x86_64-glibc-2.36", "3.11-aarch64-glibc-2.36"


def one_stage(**stage: Any) -> dict[str, Any]:
    """What makes of the pipeline `p` one stage `a`."""
    return {
        "pipeline": {"a": a_stage("q1", "q2", **stage)},
        "queues": {"q1": a_queue("{node.name}/raw"), "q2": a_queue("out")},
    }


async def kept(service: Served, target: str, wheel: bytes, asked: str = "asked") -> operator.Lock:
    """A lock of one wheel, uploaded and kept."""
    digest = await upload(service, wheel)
    made = Lock(target, (Wheel("w", "1", "w-1-py3-none-any.whl", digest, len(wheel)),))
    await upload(service, made.to_bytes())
    lock = operator.Lock(segment="a", target=target, requirements_digest=asked, digest=made.digest)
    await service.operator.KeepLock(operator.KeepLockRequest(lock=lock))
    return lock


async def submitted(service: Served, locks: Sequence[operator.Lock], **changes: Any) -> operator.SubmitReply:
    await upload(service, CODE)
    request = a_request(**changes)
    request.artifacts.clear()
    request.artifacts["a"] = await upload(service, CODE)
    request.locks.extend(locks)
    reply: operator.SubmitReply = await service.operator.Submit(request)
    return reply


async def found(service: Served, target: str = TARGET, asked: str = "asked", id_: str = "p") -> list[str]:
    wanted = operator.Lock(segment="a", target=target, requirements_digest=asked)
    reply = await service.operator.FindLocks(operator.FindLocksRequest(id=id_, wanted=[wanted]))
    assert all((each.segment, each.target) == ("a", target) for each in reply.locks)
    return [each.digest for each in reply.locks]


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return dict(caught.value.trailing_metadata() or ())[KIND_KEY], caught.value.details() or ""


def runs(service: Served) -> dict[str, str]:
    """Node -> the lock of what it is to run."""
    deployments = service.deployments
    return {copy.node: deployments.parsed(copy).lock for copy in deployments.get("p").target}


def test_the_plan_asks_for_locks_and_a_submit_without_one_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE):
            request = a_request(**one_stage())
            plan = await service.operator.Plan(operator.PlanRequest(document=request.document))
            assert [list(each.targets) for each in plan.segments] == [[TARGET]]
            kind, sentence = await refused(submitted(service, [], **one_stage()))
            assert kind == "conflict"
            assert f"the packages of segment a are not resolved for node edge ({TARGET}): submit again" in sentence
            lock = await kept(service, TARGET, b"wheel")
            number = (await submitted(service, [lock], **one_stage())).revision
            assert (await verdict(service, number)).succeeded
            assert runs(service) == {"edge": lock.digest}
            assert (await submitted(service, [lock], **one_stage())).unchanged

    run(test())


def test_a_container_comes_with_its_build_context_or_an_image(tmp_path: Path) -> None:
    async def test() -> None:
        boxed = one_stage(containerized=True)
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE | {"drivers": ["docker"]}):
            lock = await kept(service, TARGET, b"wheel")
            kind, sentence = await refused(submitted(service, [lock], **boxed))
            assert kind == "conflict"
            assert "of segment a are not resolved for node edge" in sentence
            lock.context = "c" * 64
            assert "1 artifacts were not uploaded" in (await refused(submitted(service, [lock], **boxed)))[1]
            lock.context = await upload(service, b"a context")
            await submitted(service, [lock], **boxed)
            (copy,) = service.deployments.get("p").target
            spec = service.deployments.parsed(copy)
            assert (spec.context, spec.image) == (lock.context, "")
            lock.context, lock.image = "d" * 64, f"registry/a@sha256:{'e' * 64}"
            registry = {"prefix": "registry", "credentials": {"secret": "login"}}
            await submitted(service, [lock], registry=registry, **boxed)
            (copy,) = service.deployments.get("p").target
            spec = service.deployments.parsed(copy)
            assert (spec.context, spec.image, spec.image_secret) == ("", lock.image, "login")
            wanted = operator.Lock(segment="a", target=TARGET, requirements_digest="asked")
            (known,) = (await service.operator.FindLocks(operator.FindLocksRequest(id="p", wanted=[wanted]))).locks
            assert (known.context, known.image) == (lock.context, lock.image), "it need not be pushed again"

    run(test())


def test_what_others_resolved_can_be_had(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service:
            digest = await upload(service, bytes(200_000))
            found = service.operator.DownloadArtifact(operator.DownloadArtifactRequest(digest=digest))
            assert b"".join([piece.data async for piece in found]) == bytes(200_000)
            absent = service.operator.DownloadArtifact(operator.DownloadArtifactRequest(digest="0" * 64))
            assert (await refused(anext(aiter(absent))))[0] == "not-found"

    run(test())


def test_a_node_with_its_own_environment_needs_none(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            number = (await submitted(service, [], **one_stage())).revision
            assert (await verdict(service, number)).succeeded
            assert runs(service) == {"edge": ""}

    run(test())


def test_a_lock_is_kept_only_with_its_wheels(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service:
            made = Lock(TARGET, (Wheel("w", "1", "w-1-py3-none-any.whl", "0" * 64, 5),))
            lock = operator.Lock(segment="a", target=TARGET, requirements_digest="asked", digest=made.digest)
            keep = operator.KeepLockRequest(lock=lock)
            assert "it was not uploaded" in (await refused(service.operator.KeepLock(keep)))[1]
            await upload(service, made.to_bytes())
            kind, sentence = await refused(service.operator.KeepLock(keep))
            assert kind == "conflict"
            assert "1 of its wheels were not uploaded" in sentence
            keep.lock.target = OTHER_TARGET
            assert "it is for 3.11-x86_64" in (await refused(service.operator.KeepLock(keep)))[1]
            assert await found(service) == []

    run(test())


def test_what_runs_keeps_its_lock_though_others_resolved_since(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE):
            old = await kept(service, TARGET, b"old")
            assert await found(service) == [old.digest]
            await submitted(service, [old], **one_stage())
            new = await kept(service, TARGET, b"new")
            assert await found(service) == [old.digest]
            assert await found(service, id_="another") == [new.digest]
            assert await found(service, asked="more") == await found(service, OTHER_TARGET) == []
            (tmp_path / "artifacts" / old.digest).unlink()
            assert await found(service) == [], "one whose blobs are gone is no use"

    run(test())


def test_start_takes_the_locks_of_its_revision(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE):
            lock = await kept(service, TARGET, b"wheel")
            number = (await submitted(service, [lock], **one_stage())).revision
            assert (await verdict(service, number)).succeeded
            await service.operator.Stop(operator.StopRequest(id="p"))
            await until("it is stopped", lambda: service.deployments.get("p").phase is Phase.STOPPED)
            await service.operator.Start(operator.StartRequest(id="p"))
            assert (await verdict(service, number + 1)).succeeded
            assert runs(service) == {"edge": lock.digest}
            assert [each.digest for each in service.store.revision("p", number + 1).resolution.locks] == [lock.digest]

    run(test())


def test_each_kind_of_node_has_its_lock_and_a_node_of_another_kind_that_joins_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "gw-0", NODE):
            one = await kept(service, TARGET, b"wheel")
            number = (await submitted(service, [one], **one_stage(replicas="each"))).revision
            assert (await verdict(service, number)).succeeded
            async with obedient(service.address, "gw-1", NODE), obedient(service.address, "gw-2", OTHER):
                await until("the one of the same kind is served", lambda: "gw-1" in runs(service))

                def told() -> bool:
                    return "gw-2" in deployment_status(service.deployments, service.fleet, "p", 0).reason

                await until("the other is told", told)
                status = deployment_status(service.deployments, service.fleet, "p", 0)
                assert f"node gw-2 has no copy of a: its packages are not resolved for {OTHER_TARGET}" in status.reason
                assert runs(service) == {"gw-0": one.digest, "gw-1": one.digest}
                plan = await service.operator.Plan(
                    operator.PlanRequest(document=a_request(**one_stage(replicas="each")).document)
                )
                assert list(plan.segments[0].targets) == [OTHER_TARGET, TARGET]
                two = await kept(service, OTHER_TARGET, b"other")
                await submitted(service, [one, two], **one_stage(replicas="each"))
                assert runs(service) == {"gw-0": one.digest, "gw-1": one.digest, "gw-2": two.digest}
                assert not told()

    run(test())
