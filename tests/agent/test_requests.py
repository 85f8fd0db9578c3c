"""What is asked of a node on the second stream, over real gRPC and real processes of the stand-in runtime."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fogline.agent.core.desired import Assignment
from fogline.agent.host.workspace import Workspace
from fogline.agent.requests import Requests, _RequestStream
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire.terms import CopyState, ErrorKind, Wanted
from support.agent_builders import a_spec, a_wish, until
from support.agent_coordinator import FakeCoordinator
from support.agent_parts import Node, a_node, scene

if TYPE_CHECKING:
    from fogline.v1.agent_coordinator_pb2_grpc import AgentCoordinatorAsyncStub

pytestmark = pytest.mark.e2e


def test_what_is_asked_of_a_node(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with (
            FakeCoordinator().serving() as coordinator,
            a_node(tmp_path, coordinator.address, real=True, idle_s=0.5) as node,
        ):
            coordinator.desire(1, wish)
            await until(lambda: node.state(wish) is CopyState.READY, "ready")
            assert coordinator.requests_opened == [], "only on demand"
            await _probe(coordinator)
            await _logs(coordinator, node, wish)
            await _tap(coordinator, wish)
            await _publish(coordinator, wish)
            await _refusals(coordinator, wish)
            opened = len(coordinator.requests_opened)
            await until(lambda: coordinator.requests_open == 0, "closed when idle")
            coordinator.ask(id="late", probe=agent.Probe())
            await until(coordinator.answered("late"), "opened again")
            assert coordinator.requests_opened == ["gateway-1"] * (opened + 1)

    scene(life())


def test_a_stream_that_is_asked_for_while_it_closes_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def life() -> None:
        asked: list[str] = []
        opens, closes = Requests.open, _RequestStream.close

        def noted(self: Requests, stub: AgentCoordinatorAsyncStub) -> None:
            asked.append("open")
            opens(self, stub)

        async def slowly(self: _RequestStream) -> None:
            if asked == ["open"]:
                coordinator.ask(id="2", probe=agent.Probe())
                await until(lambda: len(asked) > 1, "it is asked for again")
            await closes(self)

        monkeypatch.setattr(Requests, "open", noted)
        monkeypatch.setattr(_RequestStream, "close", slowly)
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address, idle_s=0.2):
            await until(lambda: coordinator.hellos, "connected")
            coordinator.ask(id="1", probe=agent.Probe())
            await until(coordinator.answered("1"), "a probe is answered")
            await until(coordinator.answered("2"), "so is the one that came while it closed")
            await until(lambda: coordinator.requests_open == 0, "closed when idle")
            assert len(coordinator.requests_opened) == 2

    scene(life())


async def _probe(coordinator: FakeCoordinator) -> None:
    coordinator.ask(id="1", deadline_s=5.0, probe=agent.Probe())
    await until(coordinator.answered("1"), "a probe is answered")
    (reply,) = coordinator.answers("1")
    assert (reply.seq, reply.last, reply.error_kind) == (0, True, "")
    assert reply.observation.copies[0].state == common.COPY_STATE_READY
    assert reply.observation.copies[0].stages[0].counters["done"] == 3


async def _logs(coordinator: FakeCoordinator, node: Node, wish: Assignment) -> None:
    log = Workspace.of(node.state_dir, wish.key).log
    log.with_name("stage.log.1").write_bytes(b"f" * 50_000)
    log.write_bytes(b"p" * 100_000)
    coordinator.ask(id="2", deadline_s=5.0, logs=agent.Logs(assignment=wish.id, tail_bytes=120_000))
    await until(coordinator.answered("2"), "logs are answered")
    replies = coordinator.answers("2")
    assert b"".join(reply.data for reply in replies) == b"f" * 20_000 + b"p" * 100_000
    assert max(len(reply.data) for reply in replies) <= 64 * 1024
    assert [reply.seq for reply in replies] == list(range(len(replies)))
    assert [reply.last for reply in replies] == [False] * (len(replies) - 1) + [True]


async def _tap(coordinator: FakeCoordinator, wish: Assignment) -> None:
    coordinator.ask(id="3", deadline_s=5.0, tap=agent.Tap(assignment=wish.id, queue="raw", count=500))
    await until(coordinator.answered("3"), "a tap ends after its count")
    replies = coordinator.answers("3")
    lines = b"".join(reply.data for reply in replies).splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(500))
    assert len(replies) < 250, "several records in one reply"
    coordinator.ask(id="4", deadline_s=0.3, tap=agent.Tap(assignment=wish.id, queue="raw"))
    await until(coordinator.answered("4"), "watching ends with the deadline")
    assert coordinator.answers("4")[-1].error_kind == ""
    coordinator.ask(id="5", tap=agent.Tap(assignment=wish.id, queue="raw"))
    await until(lambda: coordinator.answers("5"), "records come")
    coordinator.ask(id="5", cancel=True)
    coordinator.ask(id="6", deadline_s=5.0, probe=agent.Probe())
    await until(coordinator.answered("6"), "a cancel ends it")
    assert not coordinator.answered("5")(), "without a word"


async def _publish(coordinator: FakeCoordinator, wish: Assignment) -> None:
    def piece(lines: bytes, *, end: bool) -> agent.Publish:
        return agent.Publish(assignment=wish.id, queue="raw", lines=lines, end=end)

    coordinator.ask(id="7", deadline_s=5.0, publish=piece(b'{"n":1}\n{"n":2}\n', end=False))
    await until(lambda: len(coordinator.answers("7")) == 1, "the first chunk is confirmed")
    coordinator.ask(id="7", deadline_s=5.0, publish=piece(b'\n{"n":3}', end=True))
    await until(coordinator.answered("7"), "the last one too")
    assert [(reply.confirmed, reply.last) for reply in coordinator.answers("7")] == [(2, False), (3, True)]
    coordinator.ask(id="8", deadline_s=5.0, publish=piece(b'{"n":1}\n"poison"\n', end=True))
    await until(coordinator.answered("8"), "a failure is told")
    (reply,) = coordinator.answers("8")
    assert (reply.error_kind, reply.error) == ("unreachable", "no broker at localhost:1883")


async def _refusals(coordinator: FakeCoordinator, wish: Assignment) -> None:
    coordinator.ask(id="9", logs=agent.Logs(assignment="plant/other/0/a", tail_bytes=10))
    coordinator.ask(id="10", deadline_s=5.0)
    await until(coordinator.answered("9"), "not here")
    await until(coordinator.answered("10"), "not known")
    assert coordinator.answers("9")[0].error_kind == ErrorKind.NOT_FOUND
    assert coordinator.answers("10")[0].error_kind == ErrorKind.VERSION_MISMATCH


def text(coordinator: FakeCoordinator, id_: str) -> str:
    return b"".join(reply.data for reply in coordinator.answers(id_)).decode()


def test_holdings_are_every_wish_with_its_spec(tmp_path: Path) -> None:
    async def life() -> None:
        runs = a_wish(a_spec(), incarnation=3, revision=7)
        prepared = a_wish(a_spec("later"), Wanted.PREPARED)
        large = a_wish(replace(a_spec("large"), cluster="c" * 1_500_000), Wanted.PREPARED)
        gone = a_wish(a_spec("gone"), Wanted.STOPPED)
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address) as node:
            coordinator.desire(4, runs, prepared, gone)
            await until(lambda: node.state(prepared) is CopyState.PREPARED, "prepared")
            await until(lambda: node.state(gone) is CopyState.GONE, "gone")
            coordinator.ask(id="1", deadline_s=5.0, holdings=agent.Holdings())
            await until(coordinator.answered("1"), "answered")
            (reply,) = coordinator.answers("1")
            held = {each.id: each for each in reply.held.assignments}
            assert set(held) == {runs.id, prepared.id}, "what is gone is held no more"
            assert (reply.held.cluster_id, reply.held.epoch, reply.held.generation) == ("c1", 1, 4)
            one = held[runs.id]
            assert (one.spec, one.spec_digest, one.wanted) == (runs.spec, runs.spec_digest, common.WANTED_RUNNING)
            assert (one.bind, one.revision, one.incarnation) == (True, 7, 3)
            assert held[prepared.id].wanted == common.WANTED_PREPARED
            coordinator.desire(5, large)
            await until(lambda: node.store.membership().generation == 5, "taken")
            coordinator.ask(id="2", deadline_s=5.0, holdings=agent.Holdings())
            await until(coordinator.answered("2"), "answered")
            parts = coordinator.answers("2")
            assert len(parts) == 2, "a message has its limit"
            assert {each.id for part in parts for each in part.held.assignments} == {*held, large.id}

    scene(life())


def test_logs_are_followed_over_a_restart_and_a_successor_until_all_is_gone(tmp_path: Path) -> None:
    async def life() -> None:
        old, new = a_wish(a_spec()), a_wish(a_spec(environment={"NEWER": "yes"}), revision=2)
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address, real=True) as node:
            coordinator.desire(1, old)
            await until(lambda: node.state(old) is CopyState.READY, "ready")
            coordinator.ask(id="1", logs=agent.Logs(assignment=old.id, tail_lines=1, follow=True))
            first = node.pid(old)
            await until(lambda: f"stage starts as {first}" in text(coordinator, "1"), "its last line")
            os.kill(first, signal.SIGKILL)
            await until(lambda: node.state(old) is CopyState.READY and node.pid(old) != first, "restarted")
            second = node.pid(old)
            coordinator.desire(2, replace(old, wanted=Wanted.STOPPED), new)
            await until(lambda: node.state(new) is CopyState.READY, "the successor is ready")
            third = node.pid(new)
            await until(lambda: f"stage starts as {third}" in text(coordinator, "1"), "also of the successor")
            assert not coordinator.answered("1")()
            coordinator.desire(3, replace(old, wanted=Wanted.STOPPED), replace(new, wanted=Wanted.STOPPED))
            await until(coordinator.answered("1"), "nothing is left to follow")
            starts = [line for line in text(coordinator, "1").splitlines() if "starts as" in line]
            assert starts == [f"stage starts as {pid}" for pid in (first, second, third)]

    scene(life())


def test_following_ends_with_its_deadline(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address, real=True) as node:
            coordinator.desire(1, wish)
            await until(lambda: node.state(wish) is CopyState.READY, "ready")
            coordinator.ask(id="1", deadline_s=0.3, logs=agent.Logs(assignment=wish.id, follow=True))
            await until(coordinator.answered("1"), "it ends")
            assert coordinator.answers("1")[-1].error_kind == ""

    scene(life())
