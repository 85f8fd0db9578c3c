"""A copy whose input has ended: it stays ended, over agents and lost stores, until it is called back."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.core.desired import Assignment
from fogline.agent.core.observed import CopySeen
from fogline.agent.host.workspace import Workspace
from fogline.wire.terms import CopyState, Wanted
from support.agent_builders import a_spec, a_wish, until
from support.agent_node import a_node, scene

pytestmark = pytest.mark.e2e

S = CopyState
WORDS = "end of input: 9 in, 9 out"


def a_short_one(restart: str = "always") -> Assignment:
    return a_wish(a_spec(environment={"FAKE_FINISHED": WORDS}, restart=restart))


def same(seen: CopySeen) -> bool:
    return (seen.reason, seen.restarts, seen.pid, seen.stages[0].counters) == (WORDS, 0, 0, {"in": 9, "done": 9})


@pytest.mark.parametrize("restart", ["always", "on-failure", "no"])
def test_it_is_not_started_again_whatever_its_policy(tmp_path: Path, restart: str) -> None:
    async def life() -> None:
        wish = a_short_one(restart)
        async with a_node(tmp_path / "n") as node:
            node.wants(wish)
            assert same(await node.reaches(wish, S.FINISHED))
            node.wants(replace(wish, revision=2))
            assert same(await node.reaches(wish, S.FINISHED)), "another label changes nothing"
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)

    scene(life())


@pytest.mark.parametrize("lost", [False, True], ids=["store", "store lost"])
def test_the_next_agent_knows_that_it_has_finished(tmp_path: Path, lost: bool) -> None:
    async def life() -> None:
        wish = a_short_one()
        async with a_node(tmp_path / "n") as node:
            node.wants(wish)
            await node.reaches(wish, S.FINISHED)
        if lost:
            (tmp_path / "n" / "state.db").unlink()
        async with a_node(tmp_path / "n") as node:
            assert same(await node.reaches(wish, S.FINISHED))

    scene(life())


def test_one_that_finished_while_no_agent_was_there_has_finished(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_short_one()
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(replace(wish, wanted=Wanted.PREPARED))
            await node.reaches(wish, S.PREPARED)
            workspace = Workspace.of(node.state_dir, wish.key).path
            (workspace / "more").touch()
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
        (workspace / "finished.json").write_text(f'{{"reason": "{WORDS}", "stages": []}}')
        os.kill(pid, signal.SIGTERM)
        await until(lambda: (workspace / "exit.json").exists(), "it has ended")
        async with a_node(tmp_path / "n") as node:
            seen = await node.reaches(wish, S.FINISHED)
            assert (seen.reason, seen.restarts) == (WORDS, 0)

    scene(life())


def test_a_higher_incarnation_calls_it_back(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_short_one()
        async with a_node(tmp_path / "n") as node:
            node.wants(wish)
            await node.reaches(wish, S.FINISHED)
            (Workspace.of(node.state_dir, wish.key).path / "more").touch()
            node.wants(replace(wish, incarnation=1))
            seen = await node.reaches(wish, S.READY)
            assert (seen.incarnation, seen.reason) == (1, "")

    scene(life())
