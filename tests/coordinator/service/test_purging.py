"""What a deleted deployment leaves on its nodes goes, at once or when the node is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fogline.coordinator.service.purging import Purging
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from support.conversation import answer_requests, brought_up, obedient, ran_on, run, until
from support.fake_agent import served

pytestmark = pytest.mark.e2e


def _purged(_: agent.NodeRequest) -> list[agent.NodeReply]:
    return [agent.NodeReply(data=b'{"discarded": 3}\n')]


def _broken(_: agent.NodeRequest) -> list[agent.NodeReply]:
    return [agent.NodeReply(error_kind="failed", error="the disk is broken")]


def test_a_delete_purges_where_it_can_and_names_the_rest(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge", "gone")
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            answering = asyncio.create_task(answer_requests(edge, _purged))
            reply = await service.operator.Delete(operator.DeleteRequest(id="p"))
            (asked,) = [each.dead_letters for each in await answering]
            assert (asked.pipeline, asked.action, list(asked.letters)) == ("p", "purge", [])
            assert list(reply.letters_left_on) == ["gone"]
            assert service.store.purges() == [("p", "gone")]
        async with served(tmp_path) as service:
            running = asyncio.create_task(Purging(service.store, service.fleet).run(look_s=0.01))
            async with obedient(service.address, "gone") as gone:
                await answer_requests(gone, _purged)
                await until("purged", lambda: service.store.purges() == [])
            running.cancel()

    run(test())


def test_a_refusal_is_not_asked_again_in_the_same_session(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge")
        async with served(tmp_path) as service:
            service.store.forget("p")
            purging = Purging(service.store, service.fleet)
            for _ in range(2):
                async with obedient(service.address, "edge") as edge:
                    answering = asyncio.create_task(answer_requests(edge, _broken))
                    assert await purging.attempt("p") == ["edge"]
                    await answering
                    assert await purging.attempt("p") == ["edge"], "at once, without asking"

    run(test())


def test_a_new_deployment_of_that_name_keeps_what_is_still_there(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge")
        async with served(tmp_path) as service:
            service.store.forget("p")
            assert service.store.purges() == [("p", "edge")]
            async with obedient(service.address, "edge"):
                await brought_up(service)
            assert service.store.purges() == []
            assert service.store.hosts("p") == ["edge"]

    run(test())
