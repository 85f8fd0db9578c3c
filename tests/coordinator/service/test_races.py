"""Orders that race, over a real channel: the last one is in charge, none is lost, nothing wedges."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from fogline.coordinator.core.deployment import Phase
from fogline.v1 import operator_coordinator_pb2 as operator
from support.conversation import a_request, brought_up, obedient, run, submit, until, verdict
from support.documents import a_pipeline
from support.fake_agent import Served, joined, served

pytestmark = pytest.mark.e2e

SUBMITS = 24


def _variant(number: int) -> dict[str, Any]:
    """The pipeline `p` with another environment for stage b alone."""
    pipeline = a_pipeline()["pipeline"]
    return {"pipeline": pipeline | {"b": pipeline["b"] | {"environment": {"N": str(number)}}}}


async def _phase(service: Served, phase: Phase) -> None:
    await until(f"it is {phase}", lambda: service.deployments.get("p").phase is phase)


def test_of_submits_that_race_the_last_one_runs_and_every_other_has_its_verdict(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            requests = [a_request(**_variant(number)) for number in range(SUBMITS)]
            replies = await asyncio.gather(*(service.operator.Submit(each) for each in requests))
            numbers = [reply.revision for reply in replies]
            assert sorted(numbers) == list(range(2, SUBMITS + 2))
            assert (await verdict(service, max(numbers))).succeeded
            for number in sorted(numbers)[:-1]:
                outcome = await verdict(service, number)
                assert outcome.succeeded or outcome.text.startswith("superseded by revision"), outcome
            assert service.deployments.get("p").revision == max(numbers)
            last = requests[numbers.index(max(numbers))]
            history = await service.operator.GetRevision(operator.GetRevisionRequest(id="p"))
            assert b'"N": "%d"' % requests.index(last) in history.document

    run(test())


def test_equal_submits_that_race_make_one_revision_that_runs(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            replies = await asyncio.gather(*(service.operator.Submit(a_request()) for _ in range(SUBMITS)))
            assert all(reply.unchanged and reply.revision == 1 for reply in replies)

    run(test())


def test_a_stop_comes_through_whatever_is_under_way_and_a_submit_begins_from_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            for number in range(6):
                await submit(service, **_variant(number))
                for _ in range(number):  # each time it is caught a little later on its way
                    await service.deployments.changed(0.05)
                await service.operator.Stop(operator.StopRequest(id="p"))
                if number % 2:
                    await _phase(service, Phase.STOPPED)
            await _phase(service, Phase.STOPPED)
            assert await brought_up(service) == 7

    run(test())


def test_a_stop_is_heard_while_a_node_does_nothing_at_all(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as deaf:
            await deaf.observe()
            number = (await submit(service)).revision
            await service.operator.Stop(operator.StopRequest(id="p"))
            outcome = await verdict(service, number)
            assert (outcome.succeeded, outcome.text) == (False, "stopped by the operator before it was ready")

    run(test())


def test_a_delete_in_the_middle_of_a_submit_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            await submit(service, **_variant(1))
            await service.operator.Delete(operator.DeleteRequest(id="p"))
            assert service.deployments.ids() == []
            assert service.store.desired() == []
            assert await brought_up(service) == 1

    run(test())


def test_nothing_begins_under_a_name_that_is_being_deleted(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, joined(service.address, "edge") as deaf:
            await deaf.observe()
            await submit(service)
            deleting = service.operator.Delete(operator.DeleteRequest(id="p"))
            await until("it is being deleted", lambda: service.deployments.get("p").release)
            submitting, start = a_request(**_variant(1)), operator.StartRequest(id="p")
            for order, request in ((service.operator.Submit, submitting), (service.operator.Start, start)):
                with pytest.raises(grpc.aio.AioRpcError, match="is being deleted") as caught:
                    await order(request)
                assert caught.value.code() is grpc.StatusCode.ABORTED
            await service.operator.Stop(operator.StopRequest(id="p"))
            assert service.deployments.get("p").release, "a stop does not save it"
            deleting.cancel()

    run(test())


def test_a_stopped_successor_leaves_what_ran_to_be_started_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service, **_variant(1))
            await submit(service, **_variant(2))
            await service.operator.Stop(operator.StopRequest(id="p"))
            await _phase(service, Phase.STOPPED)
            await service.operator.Start(operator.StartRequest(id="p"))
            assert (await verdict(service, 3)).succeeded
            again = await service.operator.GetRevision(operator.GetRevisionRequest(id="p"))
            environments = [each["environment"] for each in map(json.loads, _specs(service)) if each["environment"]]
            number = environments[0]["N"]
            assert json.loads(again.document)["pipeline"]["b"]["environment"] == {"N": number}

    run(test())


def _specs(service: Served) -> list[bytes]:
    return [service.deployments.spec(copy) for copy in service.deployments.get("p").target]
