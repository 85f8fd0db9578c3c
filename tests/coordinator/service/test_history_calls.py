"""Revisions, differences, events and start, over a real channel."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from fogline.coordinator.service.status import deployment_status
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import KIND_KEY
from support.conversation import a_request, answer_requests, brought_up, obedient, run, until, verdict
from support.documents import a_pipeline
from support.fake_agent import Served, joined, served

pytestmark = pytest.mark.e2e

ENVIRONMENT = {"environment": {"A": "1"}}


def changed() -> dict[str, Any]:
    """The pipeline `p` with another environment for stage b alone."""
    pipeline = a_pipeline()["pipeline"]
    return {"pipeline": pipeline | {"b": pipeline["b"] | ENVIRONMENT}}


async def _events(service: Served, **request: Any) -> list[operator.Event]:
    return [each async for each in service.operator.Events(operator.EventsRequest(**request))]


async def _refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return dict(caught.value.trailing_metadata() or ())[KIND_KEY], caught.value.details() or ""


def test_every_revision_is_told_and_its_document_comes_back(tmp_path: Path) -> None:
    async def test() -> None:
        began = time.time()
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            await brought_up(service, **changed())
            history = (await service.operator.History(operator.HistoryRequest(id="p"))).revisions
            assert [(each.number, each.state, each.in_charge) for each in history] == [
                (1, "superseded", False),
                (2, "running", True),
            ]
            assert [each.verdict for each in history] == ["revision 1 is running", "revision 2 is running"]
            assert began <= history[0].created_at <= history[1].created_at
            assert not any(each.document for each in history)
            for number, expected in ((0, a_pipeline(**changed())), (1, a_pipeline())):
                found = await service.operator.GetRevision(operator.GetRevisionRequest(id="p", revision=number))
                assert json.loads(found.document) == expected
            kind, sentence = await _refusal(
                service.operator.GetRevision(operator.GetRevisionRequest(id="p", revision=7))
            )
            assert (kind, "coord history p" in sentence) == ("not-found", True)

    run(test())


def test_a_diff_tells_what_a_submit_would_do_and_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await until("the node", lambda: service.fleet.records["edge"].observed_generation >= 0)
            fresh = await service.operator.Diff(a_request())
            assert (fresh.id, fresh.revision, fresh.document) == ("p", 0, b"")
            assert [(each.segment, each.change, each.node) for each in fresh.segments] == [
                (name, "new", "edge") for name in "abc"
            ]
            await brought_up(service)
            same = await service.operator.Diff(a_request())
            assert (same.revision, json.loads(same.document)) == (1, a_pipeline())
            assert {each.change for each in same.segments} == {"kept"}
            other = await service.operator.Diff(a_request(**changed()))
            assert [(each.segment, each.change) for each in other.segments] == [
                ("a", "kept"),
                ("b", "restarted"),
                ("c", "kept"),
            ]
            not_uploaded = await service.operator.Diff(a_request("f" * 64))
            assert {each.change for each in not_uploaded.segments} == {"restarted"}
            assert len((await service.operator.History(operator.HistoryRequest(id="p"))).revisions) == 1
            kind, _ = await _refusal(service.operator.Diff(a_request(infra={"mars": {}}, pipeline=_on("mars"))))
            assert kind == "unplaceable"

    run(test())


def _on(machine: str) -> dict[str, Any]:
    return {name: stage | {"infra": machine} for name, stage in a_pipeline()["pipeline"].items()}


def test_events_tell_a_life_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as fake:
            await brought_up(service)
            copies = service.deployments.get("p").target
            dying = common.CopyObserved(
                assignment=copies[1].assignment,
                spec_digest=copies[1].spec_digest,
                state=common.COPY_STATE_RESTARTING,
                reason="killed by SIGKILL",
            )
            await fake.observe(dying, generation=service.fleet.records["edge"].generation)
            await _until_told(service, "restarting: killed by SIGKILL")
            await service.operator.Stop(operator.StopRequest(id="p"))
            await until("stopped", lambda: service.deployments.get("p").phase == "stopped")
            told = [(each.kind, each.text) for each in await _events(service, id="p")]
            assert told[0] == ("submitted", "revision 1 submitted")
            assert told[1] == ("phase", "preparing")
            assert ("verdict", "revision 1 is running") in told
            assert told[-3:] == [("stop", "stopped by the operator"), ("phase", "stopping"), ("phase", "stopped")]
            copy = next(each for each in await _events(service) if each.kind == "copy")
            assert (copy.deployment, copy.revision, copy.node, copy.segment) == ("p", 1, "edge", "b")
            nodes = [(each.kind, each.node, each.text) for each in await _events(service) if each.kind == "node"]
            assert nodes == [("node", "edge", "joined")]
            assert len(await _events(service, limit=2)) == 2
            assert await _events(service, since=time.time() + 60) == []

    run(test())


async def _until_told(service: Served, text: str) -> None:
    async for event in service.operator.Events(operator.EventsRequest(id="p", follow=True)):
        if event.text == text:
            return


def test_whoever_follows_hears_of_a_node_that_goes_and_comes_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service:
            call = service.operator.Events(operator.EventsRequest(follow=True))
            heard: list[str] = []

            async def listen() -> None:
                async for event in call:
                    heard.append(event.text)
                    if len(heard) == 3:
                        return

            listening = asyncio.create_task(listen())
            async with joined(service.address, "edge"):
                pass
            async with joined(service.address, "edge"):
                await asyncio.wait_for(listening, 5.0)
            assert heard == ["joined", "away: its session ended", "connected again"]

    run(test())


def test_a_coordinator_that_stops_tells_nothing_of_its_nodes_until_one_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with AsyncExitStack() as outlives:
            async with served(tmp_path) as service:
                await outlives.enter_async_context(joined(service.address, "edge"))
            async with served(tmp_path) as service:
                assert [each.text for each in await _events(service)] == ["joined"]
                monkeypatch.setattr("fogline.coordinator.service.fleet.DISCONNECTED_AFTER_S", 0.0)
                service.fleet.on_change("edge")
                await until("told", lambda: service.fleet.records["edge"].told_away)
                async with joined(service.address, "edge"):
                    assert [each.text for each in await _events(service)] == [
                        "joined",
                        "away: not heard since the coordinator started",
                        "connected again",
                    ]

    run(test())


def test_the_events_of_a_deleted_deployment_are_still_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service)
            purging = asyncio.create_task(answer_requests(edge, lambda _: [agent.NodeReply(data=b'{"discarded": 0}')]))
            await service.operator.Delete(operator.DeleteRequest(id="p"))
            await purging
            assert "deleted by the operator" in [each.text for each in await _events(service, id="p")]
            kind, _ = await _refusal(service.operator.History(operator.HistoryRequest(id="p")))
            assert kind == "not-found"

    run(test())


def test_a_stopped_deployment_starts_with_what_it_had(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            running = await service.operator.Start(operator.StartRequest(id="p"))
            assert (running.revision, running.state) == (1, "running"), "what runs is left alone"
            await service.operator.Stop(operator.StopRequest(id="p"))
            await until("stopped", lambda: service.deployments.get("p").phase == "stopped")
            started = await service.operator.Start(operator.StartRequest(id="p"))
            assert (await verdict(service, started.revision)).succeeded
            status = await service.operator.Status(operator.StatusRequest(id="p"))
            assert (status.state, {each.state for each in status.stages}) == ("running", {"ready"})
            found = await service.operator.GetRevision(operator.GetRevisionRequest(id="p"))
            assert json.loads(found.document) == a_pipeline()
            assert "start" in [each.kind for each in await _events(service, id="p")]

    run(test())


def test_a_restart_replaces_processes_and_also_calls_a_failed_one_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service)
            failed = [
                common.CopyObserved(
                    assignment=copy.assignment,
                    spec_digest=copy.spec_digest,
                    state=common.COPY_STATE_FAILED,
                    reason="no",
                )
                for copy in service.deployments.get("p").target
            ]
            await edge.observe(*failed, generation=service.fleet.records["edge"].generation)
            await _until_told(service, "failed: no")
            status = await service.operator.Restart(operator.RestartRequest(id="p"))
            assert (status.state, status.settled) == ("restarting", False), "the old failure is no verdict"
            statuses = [each async for each in service.operator.Watch(operator.WatchRequest(id="p"))]
            assert (statuses[-1].state, statuses[-1].succeeded) == ("running", True)
            await service.operator.Restart(operator.RestartRequest(id="p", stage="b"))
            assert service.deployments.get("p").incarnations == {"p/a/0/a": 1, "p/b/0/a": 2, "p/c/0/a": 1}
            kind, sentence = await _refusal(service.operator.Restart(operator.RestartRequest(id="p", stage="x")))
            assert (kind, "known: a, b, c" in sentence) == ("not-found", True)
            told = [each.text for each in await _events(service, id="p") if each.kind == "restart"]
            assert told == ["every segment restarted by the operator", "stage b restarted by the operator"]

    run(test())


@pytest.mark.parametrize("order", ["Restart", "Stop", "Start"])
def test_nodes_are_told_of_an_order_before_it_is_answered(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            if order == "Start":
                await service.operator.Stop(operator.StopRequest(id="p"))
                await until("stopped", lambda: service.deployments.get("p").phase == "stopped")
            record, untold = service.fleet.records["edge"], list[bool]()

            def look(*arguments: Any) -> operator.DeploymentStatus:
                untold.append(record.push.is_set())
                return deployment_status(*arguments)

            monkeypatch.setattr("fogline.coordinator.service.status.deployment_status", look)
            before = record.generation
            await getattr(service.operator, order)(getattr(operator, f"{order}Request")(id="p"))
            assert (record.generation > before, untold[0]) == (True, False)

    run(test())
