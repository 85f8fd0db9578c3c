"""What the next agent makes of what the one before it left: running, dead, denied, lost."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.host.workspace import Workspace
from fogline.agent.store.sqlite import Membership
from fogline.runtimes.spec import HealthSpec
from fogline.wire.terms import CopyState, Wanted
from support.agent_builders import a_spec, a_wish, lives, until
from support.agent_node import a_node, scene

pytestmark = pytest.mark.e2e

S = CopyState


def test_the_next_agent_finds_everything_running(tmp_path: Path) -> None:
    async def life() -> None:
        wish, loaded = a_wish(a_spec()), a_wish(a_spec("loaded"), bind=False)
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish, loaded)
            pid = (await node.reaches(wish, S.READY)).pid
            await node.reaches(loaded, S.LOADED)
        assert lives(pid)
        async with a_node(tmp_path / "n") as node:
            assert node.state(wish) is S.READY, "known before anybody is dialled"
            assert node.state(loaded) is S.LOADED
            again = await node.reaches(wish, S.READY)
            assert again.pid == pid
            assert again.restarts == 0
            node.wants(wish, loaded, replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)
            assert not lives(pid)

    scene(life())


def test_what_died_while_no_agent_was_there_is_started_again(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
        path = Workspace.of(tmp_path / "n", wish.key).path
        shim_pid = json.loads((path / "shim.json").read_text())["shim_pid"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not lives(pid) and not lives(shim_pid), "the stage and its shim are gone")
        async with a_node(tmp_path / "n") as node:
            seen = await node.reaches(wish, S.READY)
            assert seen.pid != pid
            assert seen.restarts == 1

    scene(life())


def test_after_a_power_cut_all_starts_from_the_disk(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
        path = Workspace.of(tmp_path / "n", wish.key).path
        os.kill(json.loads((path / "shim.json").read_text())["shim_pid"], signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        noted = json.loads((path / "shim.json").read_text())
        (path / "shim.json").write_text(json.dumps(noted | {"boot_id": "the boot before"}))
        async with a_node(tmp_path / "n") as node:
            seen = await node.reaches(wish, S.READY)
            assert seen.pid != pid

    scene(life())


def test_a_process_that_denies_being_ours_is_left_alone_and_blocks_a_second(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
        (Workspace.of(tmp_path / "n", wish.key).path / "deny").touch()
        async with a_node(tmp_path / "n") as node:
            await until(lambda: (seen := node.sees(wish)) and "not started twice" in seen.reason, "it says why")
            assert lives(pid)
            os.kill(pid, signal.SIGKILL)
            assert (await node.reaches(wish, S.STARTING)).restarts >= 1

    scene(life())


def test_a_stage_that_does_not_answer_is_adopted_and_judged_by_its_deadlines(tmp_path: Path) -> None:
    async def life() -> None:
        health = HealthSpec(startup_s=1.5, live_s=0.5)
        wish = a_wish(a_spec(environment={"FAKE_MUTE": "1"}, health=health))
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.pid, "it runs")
            seen = node.sees(wish)
            assert seen is not None
        async with a_node(tmp_path / "n") as node:
            assert lives(seen.pid), "it may only be busy: a model that loads holds the interpreter"
            assert node.state(wish) is S.STARTING
            await until(lambda: (again := node.sees(wish)) and again.pid not in {0, seen.pid}, "a new one")
            assert not lives(seen.pid), "ended before another was started"

    scene(life())


@pytest.mark.parametrize("fate", ["still runs", "died"])
@pytest.mark.parametrize("loss", ["rubbish", "deleted", "cut short", "one bit"])
def test_a_lost_store_is_no_reason_for_two_copies(tmp_path: Path, fate: str, loss: str) -> None:
    async def life() -> None:
        wish = a_wish(a_spec(), incarnation=2)
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
        file = tmp_path / "n" / "state.db"
        sound = file.read_bytes()
        place = sound.index(wish.spec_digest.encode())
        if loss == "deleted":
            file.unlink()
        else:
            flipped = sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :]
            file.write_bytes({"rubbish": b"rubbish" * 1000, "cut short": sound[:-5000], "one bit": flipped}[loss])
        if fate == "died":
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not lives(pid), "dead")
        async with a_node(tmp_path / "n") as node:
            seen = await node.reaches(wish, S.READY)
            assert (seen.pid == pid) == (fate == "still runs")
            assert node.store.membership() == Membership()
            (record,) = node.store.copies()
            assert record.wish == replace(wish, listed=False, drain_s=0.0)
            assert not (node.supervisor.find(wish.id).workspace.path / "two-copies").exists()

    scene(life())


def test_a_lost_store_does_not_start_what_was_never_checked(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec(environment={"FAKE_CHECK": "no function 'handler' in main.py"}))
        async with a_node(tmp_path / "n") as node:
            node.wants(wish)
            reason = (await node.reaches(wish, S.FAILED)).reason
        (tmp_path / "n" / "state.db").unlink()
        async with a_node(tmp_path / "n") as node:
            assert (await node.reaches(wish, S.FAILED)).reason == reason
            assert not node.supervisor.find(wish.id).workspace.was_started()

    scene(life())


def test_a_spec_that_this_release_cannot_read_is_no_reason_to_leave_its_process(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with a_node(tmp_path / "n", leave=True) as node:
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
        (tmp_path / "n" / "state.db").unlink()
        (Workspace.of(tmp_path / "n", wish.key).path / "spec.json").write_text('{"spec_version": 99}')
        async with a_node(tmp_path / "n") as node:
            assert (await node.reaches(wish, S.READY)).pid == pid

    scene(life())
