"""Health deadlines, crash loops and incarnations, over real processes of the stand-in runtime."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.core.desired import Assignment
from fogline.agent.host.workspace import Workspace
from fogline.runtimes.spec import Exit, HealthSpec
from fogline.wire.terms import CopyState, Wanted
from support.agent_builders import a_spec, a_wish, lives, until
from support.agent_node import Node, a_node, scene

pytestmark = pytest.mark.e2e

S = CopyState
QUICK = HealthSpec(startup_s=30.0, live_s=0.6)


def tell(node: Node, wish: Assignment, name: str, text: str | None = "") -> None:
    """Tell the stand-in something while it runs."""
    path = Workspace.of(node.state_dir, wish.key).path / name
    if text is None:
        path.unlink()
    else:
        path.with_suffix(".draft").write_text(text)
        path.with_suffix(".draft").rename(path)


async def stays(node: Node, wish: Assignment, state: CopyState, for_s: float) -> None:
    """It is in this state all the while, and was never started again."""
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        assert (seen := node.sees(wish))
        assert (seen.state, seen.restarts) == (state, 0)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["stalled", "mute"])
def test_a_stuck_stage_is_killed_and_started_again(tmp_path: Path, how: str) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(health=QUICK))
            node.wants(wish)
            first = await node.reaches(wish, S.READY)
            tell(node, wish, how, "5.0")
            seen = await node.reaches(wish, S.RESTARTING)
            assert seen.reason.startswith("stage clean: no progress for 0.6 s (health.live)")
            assert not lives(first.pid)
            tell(node, wish, how, None)
            again = await node.reaches(wish, S.READY)
            assert again.pid != first.pid
            assert (again.restarts, again.reason) == (1, "")

    scene(life())


def test_a_slow_start_is_not_stuck(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_LOAD_S": "1.5"}, health=QUICK))
            node.wants(wish)
            await node.reaches(wish, S.STARTING)
            tell(node, wish, "stalled", "100.0")
            await stays(node, wish, S.STARTING, 1.0)  # longer than `live`
            tell(node, wish, "stalled", "0")
            assert (await node.reaches(wish, S.READY)).restarts == 0

    scene(life())


def test_a_start_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_LOAD_S": "600"}, health=HealthSpec(startup_s=0.5)))
            node.wants(wish)
            seen = await node.reaches(wish, S.RESTARTING)
            assert seen.reason == "stage clean: not loaded within 0.5 s (health.startup)"

    scene(life())


def test_a_broker_that_is_away_is_no_slow_start(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            environment = {"FAKE_AWAY": "no broker at localhost:1883"}
            wish = a_wish(a_spec(environment=environment, health=HealthSpec(startup_s=0.5, live_s=0.5)))
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.pid, "it runs")
            await stays(node, wish, S.STARTING, 1.5)  # longer than both deadlines

    scene(life())


def test_progress_and_an_answer_that_is_late_keep_it_alive(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(health=replace(QUICK, live_s=2.0)))
            node.wants(wish)
            first = await node.reaches(wish, S.READY)
            for _ in range(4):
                tell(node, wish, "stalled", "1.9")
                tell(node, wish, "mute")
                await stays(node, wish, S.READY, 0.6)
                tell(node, wish, "mute", None)
                await stays(node, wish, S.READY, 0.4)
            assert (await node.reaches(wish, S.READY)).pid == first.pid

    scene(life())


@pytest.mark.parametrize("policy", ["no", "on-failure", "always"])
def test_the_restart_policy_holds_for_a_stuck_stage_too(tmp_path: Path, policy: str) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(health=QUICK, restart=policy))
            node.wants(wish)
            await node.reaches(wish, S.READY)
            tell(node, wish, "stalled", "5.0")
            seen = await node.reaches(wish, S.FAILED if policy == "no" else S.RESTARTING)
            assert "(health.live)" in seen.reason

    scene(life())


def test_a_crash_loop_shows_its_last_lines(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_EXIT": "3"}))
            node.wants(wish)
            seen = await node.reaches(wish, S.RESTARTING)
            assert seen.reason == "ended with exit code 3"
            assert seen.last_lines.startswith("stage starts as ")
            assert len(seen.last_lines) <= 2048

    scene(life())


def test_last_lines_are_told_while_it_is_down_and_by_the_next_agent(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec())
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
            assert (seen := node.sees(wish))
            assert seen.last_lines == ""
            os.kill(pid, signal.SIGKILL)
            assert f"stage starts as {pid}" in (await node.reaches(wish, S.RESTARTING)).last_lines
            assert (await node.reaches(wish, S.READY)).last_lines == ""
            ended = a_wish(a_spec("ended", environment={"FAKE_EXIT": str(int(Exit.STAGE_UNUSABLE))}))
            node.wants(ended)
            words = (await node.reaches(ended, S.FAILED)).last_lines
            assert words.startswith("stage starts as ")
        async with a_node(tmp_path / "n") as node:
            assert (await node.reaches(ended, S.FAILED)).last_lines == words

    scene(life())


def test_a_higher_incarnation_replaces_the_process_and_is_remembered(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            first = await node.reaches(wish, S.READY)
            assert first.incarnation == 0
            wish = replace(wish, incarnation=2)
            node.wants(wish)
            await until(lambda: not lives(first.pid), "the former one is drained")
            second = await node.reaches(wish, S.READY)
            assert (second.incarnation, second.restarts) == (2, 0)
            assert "draining" not in second.reason
        for lost in (False, True):
            if lost:
                (tmp_path / "n" / "state.db").unlink()
            async with a_node(tmp_path / "n", leave=True) as node:
                assert await node.reaches(wish, S.READY) == second, "adopted with the one it was started for"
        async with a_node(tmp_path / "n") as node:
            node.wants(replace(wish, incarnation=1))
            node.wants(replace(wish, incarnation=2))
            assert (await node.reaches(wish, S.READY)).pid == second.pid, "a lower one is no reason"

    scene(life())


def test_a_higher_incarnation_that_came_while_no_agent_was_there(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            first = await node.reaches(wish, S.READY)
            node.supervisor._closing = True  # it has stored the wish and dies before it acts
            node.wants(replace(wish, incarnation=1))
        async with a_node(tmp_path / "n") as node:
            await until(lambda: (seen := node.sees(wish)) and seen.incarnation == 1 and seen.state is S.READY, "again")
            assert not lives(first.pid)

    scene(life())


def test_a_higher_incarnation_calls_back_what_had_failed(tmp_path: Path) -> None:
    async def life() -> None:
        folder = tmp_path / "n"
        wish = a_wish(a_spec(environment={"FAKE_EXIT": "65"}))
        async with a_node(folder) as node:
            node.wants(wish)
            assert (await node.reaches(wish, S.FAILED)).incarnation == 0
            wish = replace(wish, incarnation=1)
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.incarnation == 1, "tried again")
            await node.reaches(wish, S.FAILED)
        starts = Workspace.of(folder, wish.key).log.read_text().count("stage starts")
        assert starts == 2
        async with a_node(folder) as node:
            assert (await node.reaches(wish, S.FAILED)).incarnation == 1
            assert Workspace.of(folder, wish.key).log.read_text().count("stage starts") == 2, "once for each"

    scene(life())


def test_a_higher_incarnation_does_not_wait_for_the_next_restart(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_EXIT": "1"}))
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.restarts >= 3, "it loops")
            copy = node.supervisor.find(wish.id)
            copy.restart_at_s = asyncio.get_running_loop().time() + 60
            began_s = time.monotonic()
            node.wants(replace(wish, incarnation=1))
            await until(lambda: copy.incarnation == 1, "at once")
            assert time.monotonic() - began_s < 5
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)

    scene(life())


def test_a_killed_shim_costs_one_restart_and_leaves_nothing(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec())
            node.wants(wish)
            first = await node.reaches(wish, S.READY)
            path = Workspace.of(node.state_dir, wish.key).path
            os.kill(json.loads((path / "shim.json").read_text())["shim_pid"], signal.SIGKILL)
            await until(lambda: not lives(first.pid), "drained")
            second = await node.reaches(wish, S.READY)
            assert second.restarts == 1
            noted = json.loads((path / "shim.json").read_text())
            assert (noted["pid"], lives(noted["shim_pid"])) == (second.pid, True)
            assert path.joinpath("stage.log").read_text().count("stage starts") == 2

    scene(life())
