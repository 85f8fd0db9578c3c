"""The conversation with the coordinator, over real gRPC, and what is asked on the second stream."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent import translate
from fogline.agent.config import Config
from fogline.agent.core.desired import Assignment
from fogline.agent.daemon import mark_adoption
from fogline.agent.drivers.mock import MockDriver
from fogline.agent.drivers.process import ProcessDriver
from fogline.agent.host.artifacts import ArtifactCache
from fogline.agent.host.facts import gather
from fogline.agent.host.workspace import Workspace
from fogline.agent.lifecycle import Ladder
from fogline.agent.link import Link
from fogline.agent.preparation import Preparation
from fogline.agent.requests import Requests
from fogline.agent.session import Session
from fogline.agent.store.sqlite import Membership, Store
from fogline.agent.supervisor import Supervisor
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire.terms import CopyState, ErrorKind, Wanted
from support.agent_builders import RUNTIME, a_spec, a_wish, until
from support.agent_coordinator import FakeCoordinator

pytestmark = pytest.mark.e2e

QUICK = Ladder(drain_grace_s=0.3, terminate_s=0.5, hello_s=0.5)


class Node:
    """An agent's parts in this process."""

    def __init__(self, state_dir: Path, store: Store, supervisor: Supervisor) -> None:
        self.state_dir = state_dir
        self.store = store
        self.supervisor = supervisor

    def state(self, wish: Assignment) -> CopyState | None:
        copies = self.supervisor.observation().copies
        return next((copy.state for copy in copies if copy.key == wish.key), None)


@asynccontextmanager
async def a_node(tmp_path: Path, address: str, *, real: bool = False, idle_s: float = 30.0) -> AsyncIterator[Node]:
    state_dir = tmp_path / "n"
    state_dir.mkdir(exist_ok=True)
    config = Config(address, "gateway-1", "edge", state_dir, {"site": "north"})
    with closing(Store(state_dir / "state.db")) as store:
        link = Link(address)
        preparation = Preparation(ArtifactCache(state_dir / "artifacts", link.fetch), RUNTIME)
        driver = ProcessDriver(RUNTIME) if real else MockDriver()
        supervisor = Supervisor(state_dir, store, driver, preparation, QUICK)
        requests = Requests("gateway-1", supervisor, RUNTIME, idle_s)
        facts = translate.node_facts(config, gather(state_dir, address, ""))
        session = Session(link, facts, supervisor, requests, state_dir, refused_delay_s=0.3)
        tasks = [asyncio.create_task(supervisor.run()), asyncio.create_task(session.run())]
        try:
            yield Node(state_dir, store, supervisor)
            for task in tasks:
                assert not task.done() or task.result() is None
        finally:
            await supervisor.stop_all(0.5)
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def scene(coroutine: object) -> None:
    asyncio.run(coroutine)  # type: ignore[arg-type]


def test_hello_says_who_and_what(tmp_path: Path) -> None:
    async def life() -> None:
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address) as node:
            await until(lambda: coordinator.heartbeats >= 2 and coordinator.observations, "it beats and observes")
            hello = coordinator.hellos[0]
            assert (hello.protocol, hello.cluster_id, hello.generation) == (1, "", 0)
            facts = hello.facts
            assert (facts.name, facts.layer, dict(facts.labels)) == ("gateway-1", "edge", {"site": "north"})
            assert facts.address == "127.0.0.1"
            assert "code" in facts.frameworks
            assert "process" in facts.drivers
            assert facts.machine_id
            assert facts.boot_id
            assert min(facts.cpus, facts.memory_bytes, facts.disk_bytes) > 0
            assert node.store.membership().cluster_id == "c1"

    scene(life())


def test_a_desired_state_is_on_the_disk_before_anything_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[list[tuple[str]]] = []

    async def life() -> None:
        wish = a_wish(a_spec())
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address) as node:

            async def prepare(*_: object) -> None:
                with closing(sqlite3.connect(node.state_dir / "state.db")) as other:
                    on_disk.append(other.execute("SELECT assignment FROM copies").fetchall())

            monkeypatch.setattr(Preparation, "prepare", prepare)
            coordinator.desire(1, replace(wish, wanted=Wanted.PREPARED))
            await until(lambda: node.state(wish) is CopyState.PREPARED, "prepared")
            assert on_disk == [[(wish.id,)]]
            assert node.store.membership() == Membership("c1", 1, 1)
            prepared = common.COPY_STATE_PREPARED
            await until(
                lambda: any(
                    seen.generation == 1 and [copy.state for copy in seen.copies] == [prepared]
                    for seen in coordinator.observations
                ),
                "the coordinator is told",
            )

    scene(life())


def test_stale_and_foreign_states_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> None:
        wish = replace(a_wish(a_spec()), wanted=Wanted.STOPPED)
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address) as node:
            coordinator.desire(5)
            coordinator.desire(4, wish)
            coordinator.desire(9, wish, epoch=0)
            coordinator.desire(9, wish, cluster_id="c2")
            coordinator.desire(6)
            await until(lambda: node.store.membership().generation == 6, "the newest is taken")
            assert node.supervisor.observation().copies == ()

    scene(life())
    assert "desired state 1.4 is older than 1.5" in caplog.text
    assert "desired state 0.9 is older than 1.5" in caplog.text
    assert "is of cluster c2: refused" in caplog.text


def test_an_unknown_wish_is_refused_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> None:
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address) as node:
            strange = agent.Assignment(id="x", wanted=common.WANTED_UNSPECIFIED)
            desired = agent.DesiredState(cluster_id="c1", epoch=1, generation=3, assignments=[strange])
            coordinator.out.put_nowait(agent.CoordinatorMessage(desired=desired))
            coordinator.desire(4)
            await until(lambda: node.store.membership().generation == 4, "the next one is taken")

    scene(life())
    assert "upgrade this node" in caplog.text


def test_another_cluster_is_refused_until_the_operator_says_adopt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        coordinator = FakeCoordinator()
        async with coordinator.serving(), a_node(tmp_path, coordinator.address) as node:
            coordinator.desire(7, wish)
            await until(lambda: node.store.membership().generation == 7, "it belongs to c1")
            await until(lambda: node.state(wish) is CopyState.STARTING, "it runs")
            coordinator.cluster_id = "c2"
            coordinator.out.put_nowait(agent.CoordinatorMessage())
        async with a_node(tmp_path, coordinator.address) as node, coordinator.serving(coordinator.address):
            await until(lambda: "fogline-agent adopt --state-dir" in caplog.text, "it says what to do")
            heard = len(coordinator.observations)
            await until(lambda: len(coordinator.hellos) >= 4, "it keeps trying")
            assert coordinator.hellos[-1].cluster_id == "c1"
            assert len(coordinator.observations) == heard, "a stranger is told nothing"
            assert node.state(wish) is CopyState.STARTING, "what runs goes on"
            mark_adoption(node.state_dir)
            await until(lambda: node.store.membership() == Membership("c2"), "adopted")
            coordinator.desire(1)
            await until(lambda: node.store.membership() == Membership("c2", 1, 1), "numbers start anew")
            assert node.state(wish) is CopyState.STARTING, "absence stops nothing, there too"

    scene(life())


def test_a_newer_protocol_is_refused_with_the_side_to_upgrade(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> None:
        async with FakeCoordinator(protocol=2).serving() as coordinator, a_node(tmp_path, coordinator.address):
            await until(lambda: "upgrade this side" in caplog.text, "it says which side")

    scene(life())


def test_it_comes_back_after_the_coordinator_was_away(tmp_path: Path) -> None:
    async def life() -> None:
        coordinator = FakeCoordinator()
        async with coordinator.serving():
            address = coordinator.address
        async with a_node(tmp_path, address) as node:
            for turn in (1, 2):
                async with coordinator.serving(address):
                    await _hears_turn(coordinator, node, turn)
            assert coordinator.hellos[-1].cluster_id == "c1"
            assert coordinator.hellos[-1].generation == 1

    scene(life())


async def _hears_turn(coordinator: FakeCoordinator, node: Node, turn: int) -> None:
    await until(lambda: len(coordinator.hellos) >= turn, "hello")
    coordinator.desire(turn)
    await until(lambda: node.store.membership().generation == turn, "the state of this turn")


def test_an_artifact_over_the_wire(tmp_path: Path) -> None:
    async def life() -> None:
        blob = bytes(200_000)
        digest = hashlib.sha256(blob).hexdigest()
        wish = a_wish(a_spec(artifacts={digest: "onnx"}), Wanted.PREPARED)
        missing = a_wish(a_spec("missing", artifacts={"f" * 64: "onnx"}), Wanted.PREPARED)
        coordinator = FakeCoordinator()
        async with coordinator.serving():
            address = coordinator.address
            async with a_node(tmp_path, address) as node:
                coordinator.desire(1, wish)
                await until(lambda: node.state(wish) is CopyState.FAILED, "it is not in the store")
                coordinator.artifacts[digest] = blob
                coordinator.desire(2, replace(wish, wanted=Wanted.STOPPED), missing)
                await until(lambda: node.state(wish) is CopyState.GONE, "gone")
                await until(lambda: node.state(missing) is CopyState.FAILED, "never there")
                coordinator.desire(3, wish)
                await until(lambda: node.state(wish) is CopyState.PREPARED, "prepared at last")
                assert (node.state_dir / "artifacts" / digest).read_bytes() == blob

    scene(life())


def test_a_fetch_survives_a_coordinator_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    async def life() -> None:
        blob = bytes(range(250)) * 1000
        digest = hashlib.sha256(blob).hexdigest()
        wish = a_wish(a_spec(artifacts={digest: "onnx"}), Wanted.PREPARED)
        coordinator = FakeCoordinator()
        coordinator.artifacts[digest] = blob
        coordinator.stalls_at = 2 * 65536
        async with coordinator.serving():
            address = coordinator.address
            node_context = a_node(tmp_path, address)
            node = await node_context.__aenter__()
            coordinator.desire(1, wish)
            partial = node.state_dir / "artifacts" / f"{digest}.partial"
            await until(lambda: partial.exists() and "50 %" in _progress(node), "half of it is here")
        try:
            await until(lambda: "waiting for the coordinator" in _progress(node), "it says what it waits for")
            coordinator.stalls_at = 0
            async with coordinator.serving(address):
                await until(lambda: node.state(wish) is CopyState.PREPARED, "the rest came")
            assert (node.state_dir / "artifacts" / digest).read_bytes() == blob
        finally:
            await node_context.__aexit__(None, None, None)

    scene(life())


def test_a_fetch_survives_a_conversation_that_ends_in_the_middle(tmp_path: Path) -> None:
    async def life() -> None:
        blob = bytes(range(250)) * 1000
        digest = hashlib.sha256(blob).hexdigest()
        wish = a_wish(a_spec(artifacts={digest: "onnx"}), Wanted.PREPARED)
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address) as node:
            coordinator.artifacts[digest] = blob
            coordinator.stalls_at = 2 * 65536
            coordinator.desire(1, wish)
            await until(lambda: "50 %" in _progress(node), "half of it is here")
            coordinator.stalls_at = 0
            coordinator.out.put_nowait(None)
            await until(lambda: node.state(wish) is CopyState.PREPARED, "the rest came")

    scene(life())


def _progress(node: Node) -> str:
    return "".join(copy.progress for copy in node.supervisor.observation().copies)


@pytest.mark.e2e
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
