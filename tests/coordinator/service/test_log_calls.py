"""Logs read and followed over a real channel: what is asked of the nodes, and what the reader gets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.service.logs import RESUME_BYTES
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from support.conversation import answer_requests, brought_up, obedient, requests_of, run, until
from support.documents import a_pipeline
from support.fake_agent import Served, served

pytestmark = pytest.mark.e2e


class Reader:
    """A `Logs` call whose replies are collected as they come."""

    def __init__(self, service: Served, **request: Any) -> None:
        self._call = service.operator.Logs(operator.LogsRequest(id="p", **request))
        self.replies: list[operator.LogsReply] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for reply in self._call:
            self.replies.append(reply)

    @property
    def text(self) -> bytes:
        return b"".join(reply.data for reply in self.replies)

    @property
    def notices(self) -> list[str]:
        return [reply.notice for reply in self.replies if reply.notice]

    async def end(self) -> None:
        await asyncio.wait_for(self._reading, 5.0)


async def _write(call: Any, request: agent.NodeRequest, data: bytes, *, last: bool = False) -> None:
    await call.write(agent.NodeReply(id=request.id, data=data, last=last))


def test_where_to_begin_is_asked_of_the_node_and_one_segment_hides_no_other(tmp_path: Path) -> None:
    def answer(request: agent.NodeRequest) -> list[agent.NodeReply]:
        if request.logs.assignment.startswith("p/b/"):
            return [agent.NodeReply(error_kind="not-found", error="p/b/0/a is not on this node")]
        return [agent.NodeReply(data=request.logs.assignment.encode())]

    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service)
            answering = asyncio.create_task(answer_requests(edge, answer, 3))
            reader = Reader(service, tail_bytes=9, tail_lines=5, since=7.5)
            await reader.end()
            asked = {(each.logs.tail_bytes, each.logs.tail_lines, each.logs.since) for each in await answering}
            assert asked == {(9, 5, 7.5)}
            assert [(each.segment, each.data, each.error_kind) for each in reader.replies] == [
                ("a", b"p/a/0/a", ""),
                ("b", b"", "not-found"),
                ("c", b"p/c/0/a", ""),
            ]

    run(test())


def test_a_reader_survives_an_agent_restart_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service:
            async with obedient(service.address, "edge") as edge:
                await brought_up(service)
                reader = Reader(service, stage="a", follow=True, tail_lines=2)
                call = await requests_of(edge)
                request = await call.read()
                assert (request.logs.follow, request.logs.tail_lines) == (True, 2)
                await _write(call, request, b"one\ntwo\n")
                await until("the first lines", lambda: reader.text == b"one\ntwo\n")
            await until("told", lambda: reader.notices == ["node edge is away; reading goes on when it is back"])
            async with obedient(service.address, "edge") as edge:
                call = await requests_of(edge)
                request = await call.read()
                assert (request.logs.follow, request.logs.tail_bytes, request.logs.tail_lines) == (
                    True,
                    RESUME_BYTES,
                    0,
                )
                await _write(call, request, b"nought\none\n")
                await _write(call, request, b"two\nthree\n")
                await _write(call, request, b"four\n")
                await until("the rest", lambda: reader.text == b"one\ntwo\nthree\nfour\n")
                assert reader.notices[1:] == ["node edge is back"]

    run(test())


def test_a_log_that_began_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service:
            async with obedient(service.address, "edge") as edge:
                await brought_up(service)
                reader = Reader(service, stage="a", follow=True)
                call = await requests_of(edge)
                await _write(call, await call.read(), b"old\n")
                await until("the old line", lambda: reader.text)
            async with obedient(service.address, "edge") as edge:
                call = await requests_of(edge)
                await _write(call, await call.read(), b"new\n")
                await until("the new line", lambda: reader.text == b"old\nnew\n")

    run(test())


def test_following_ends_with_the_deployment(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service)
            reader = Reader(service, follow=True)
            call = await requests_of(edge)
            asked = [await call.read() for _ in range(3)]
            for request in asked:
                await _write(call, request, request.logs.assignment.encode() + b"\n")
            await until("all three", lambda: len(reader.text.splitlines()) == 3)
            await service.operator.Stop(operator.StopRequest(id="p"))
            for request in asked:
                await _write(call, request, b"", last=True)
            await reader.end()
            assert sorted(reader.notices) == ["a has ended", "b has ended", "c has ended"]
            late = Reader(service, stage="a", follow=True)
            gone: dict[str, Any] = {"error_kind": "not-found", "error": "p/a/0/a is not on this node"}
            await call.write(agent.NodeReply(id=(await call.read()).id, last=True, **gone))
            await late.end()
            assert ["a stopped segment takes its log along" in each.error for each in late.replies] == [True]

    run(test())


def _stages(*names: str) -> dict[str, Any]:
    """Some of the pipeline `p`, and the queues they need."""
    whole = a_pipeline()
    return {"pipeline": {name: whole["pipeline"][name] for name in names}}


def test_a_segment_of_a_later_revision_is_followed_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service, **_stages("a", "b"))
            reader = Reader(service, follow=True)
            call = await requests_of(edge)
            for request in [await call.read() for _ in range(2)]:
                await _write(call, request, request.logs.assignment.encode() + b"\n")
            await brought_up(service, **_stages("a", "b", "c"))
            request = await asyncio.wait_for(call.read(), 5.0)
            assert request.logs.assignment == "p/c/0/a"
            await _write(call, request, b"late\n")
            await until("the new one's line", lambda: b"late\n" in reader.text)

    run(test())
