"""The conversation with the coordinator, over real gRPC, and what is asked on the second stream."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.core.desired import Assignment
from fogline.agent.daemon import mark_adoption
from fogline.agent.host.workspace import Workspace
from fogline.agent.lifecycle import Ladder
from fogline.agent.preparation import Preparation
from fogline.agent.store.sqlite import Membership
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire.terms import CopyState, Wanted
from support.agent_builders import a_spec, a_wish, until
from support.agent_coordinator import FakeCoordinator
from support.agent_parts import Node, a_node, scene

pytestmark = pytest.mark.e2e

QUICK = Ladder(drain_grace_s=0.3, terminate_s=0.5, hello_s=0.5)


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

            async def prepare(_: Preparation, wish: Assignment, workspace: Workspace, __: object) -> None:
                workspace.create(wish)
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
            assert (node.state_dir / "artifacts" / digest).read_bytes() == blob

    scene(life())


def _progress(node: Node) -> str:
    return "".join(copy.progress for copy in node.supervisor.observation().copies)
