"""The supervisor over real processes of the stand-in runtime: the life of a copy."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.attendance import introduce
from fogline.agent.core.desired import Desired
from fogline.agent.core.observed import ReadingSeen
from fogline.agent.drivers.mock import Failures, MockDriver
from fogline.agent.host.control import Silent
from fogline.agent.host.workspace import Workspace
from fogline.runtimes.spec import Exit, HealthSpec
from fogline.wire.terms import CopyState, FoglineError, Wanted
from support.agent_builders import a_spec, a_wish, lives, until
from support.agent_node import a_node, scene

pytestmark = pytest.mark.e2e

S = CopyState


def test_from_nothing_to_ready_and_gone(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec())
            node.wants(replace(wish, wanted=Wanted.PREPARED))
            seen = await node.reaches(wish, S.PREPARED)
            assert seen.pid == 0
            node.wants(replace(wish, bind=False))
            seen = await node.reaches(wish, S.LOADED)
            assert lives(seen.pid)
            node.wants(wish)
            ready = await node.reaches(wish, S.READY)
            assert ready.pid == seen.pid
            assert ready.restarts == 0
            assert ready.stages[0].counters == {"in": 3, "done": 3}
            assert ready.stages[0].p99_s == 0.002
            assert ready.stages[0].readings == (ReadingSeen("raw", 7, None),)
            workspace = Workspace.of(node.state_dir, wish.key).path
            assert (workspace / "nonce").stat().st_mode & 0o777 == 0o600
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            gone = await node.reaches(wish, S.GONE)
            assert gone.pid == 0
            assert not lives(seen.pid)
            assert not workspace.exists()
            node.wants()
            await until(lambda: node.sees(wish) is None, "nobody lists it any more")
            assert node.store.copies() == []

    scene(life())


def test_absence_stops_nothing_and_a_new_revision_label_neither(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish, other = a_wish(a_spec()), a_wish(a_spec("other"))
            node.wants(wish)
            pid = (await node.reaches(wish, S.READY)).pid
            node.wants(other)
            await node.reaches(other, S.READY)
            node.wants(other, replace(wish, revision=7))
            assert (await node.reaches(wish, S.READY)).pid == pid
            assert lives(pid)

    scene(life())


def test_a_killed_stage_is_back_at_once(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec())
            node.wants(wish)
            first = await node.reaches(wish, S.READY)
            os.kill(first.pid, signal.SIGKILL)
            killed_at = time.monotonic()
            seen = await node.reaches(wish, S.RESTARTING)
            assert seen.reason == "killed by signal 9 (SIGKILL)"
            second = await node.reaches(wish, S.READY)
            assert time.monotonic() - killed_at < 3.0
            assert second.pid != first.pid
            assert second.restarts == 1
            assert second.reason == "", "ready again: what was is over"

    scene(life())


@pytest.mark.parametrize("code", [Exit.BAD_SPEC, Exit.STAGE_UNUSABLE, Exit.RECORD_FAILED])
def test_a_final_exit_is_final_and_says_why(tmp_path: Path, code: Exit) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            environment = {"FAKE_EXIT": str(int(code)), "FAKE_FAILURE": "no module named 'scipy'"}
            wish = a_wish(a_spec(environment=environment))
            node.wants(wish)
            seen = await node.reaches(wish, S.FAILED)
            assert seen.reason == "stage clean: no module named 'scipy'"
            assert seen.restarts == 0
        async with a_node(tmp_path / "n") as node:
            assert (await node.reaches(wish, S.FAILED)).reason == seen.reason, "also for the next agent"
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)

    scene(life())


def test_a_crash_loop_slows_down_until_records_are_done(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_EXIT": "1"}))
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.restarts >= 3, "it was tried again")
            copy = node.supervisor.find(wish.id)
            assert copy.fruitless_starts >= 3
            assert copy.reason == "ended with exit code 1"
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)

    scene(life())


def test_a_failed_check_never_starts(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_CHECK": "no function 'handler' in main.py"}))
            node.wants(wish)
            seen = await node.reaches(wish, S.FAILED)
            assert seen.reason == "stage clean: no function 'handler' in main.py"
            assert not Workspace.of(node.state_dir, wish.key).was_started()

    scene(life())


def test_a_check_that_hangs_has_a_deadline(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_CHECK": "hang"}, health=HealthSpec(startup_s=0.5)))
            node.wants(wish)
            seen = await node.reaches(wish, S.FAILED)
            assert "did not finish within 0.5 s (health.startup)" in seen.reason

    scene(life())


@pytest.mark.parametrize("hangs", ["check", "fetch"])
def test_a_stop_ends_a_preparation(tmp_path: Path, hangs: str) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            artifacts = {"a" * 64: "onnx"} if hangs == "fetch" else None
            wish = a_wish(a_spec(environment={"FAKE_CHECK": "hang"}, artifacts=artifacts))
            node.wants(wish)
            busy = "waiting for the coordinator" if hangs == "fetch" else "checking"
            await until(lambda: (seen := node.sees(wish)) and busy in seen.progress, busy)
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)

    scene(life())


@pytest.mark.parametrize(
    "environment",
    [{"FAKE_DRAIN": "never"}, {"FAKE_DRAIN": "never", "FAKE_TERM": "ignore"}, {"FAKE_MUTE": "1"}],
    ids=["does not drain", "ignores SIGTERM too", "never opens its socket"],
)
def test_every_stop_comes_through(
    tmp_path: Path, environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment=environment), drain_s=0.2)
            node.wants(wish)
            expected = S.STARTING if "FAKE_MUTE" in environment else S.READY
            await until(lambda: (seen := node.sees(wish)) and seen.state is expected and seen.pid, "it runs")
            seen = node.sees(wish)
            assert seen is not None
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)
            assert not lives(seen.pid)
            assert ("SIGKILL" in caplog.text) == ("FAKE_TERM" in environment), "no rung is left out"

    scene(life())


def test_somebody_else_on_the_socket_is_not_believed(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_PID": "1"}))
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.pid, "it runs")
            copy = node.supervisor.find(wish.id)
            await until(lambda: (copy.workspace.path / "control.sock").exists(), "somebody listens")
            with pytest.raises(Silent, match="process 1 answers"):
                await introduce(copy)
            assert node.state(wish) is S.STARTING

    scene(life())


def test_wanted_again_while_draining_it_starts_anew(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec())
            node.wants(wish)
            first = await node.reaches(wish, S.READY)
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await until(lambda: node.state(wish) is not S.READY, "it drains")
            node.wants(wish)
            await until(lambda: node.state(wish) is S.READY and not lives(first.pid), "a new process")

    scene(life())


def test_the_successor_starts_when_its_predecessor_is_gone(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            old = a_wish(a_spec())
            new = a_wish(a_spec(environment={"NEWER": "yes"}), revision=2)
            assert old.id == new.id
            node.wants(old)
            pid = (await node.reaches(old, S.READY)).pid
            node.wants(old, replace(new, wanted=Wanted.PREPARED))
            await node.reaches(new, S.PREPARED)
            node.wants(old, new)
            await until(
                lambda: (seen := node.sees(new)) and "another copy" in seen.progress, "it says what it waits for"
            )
            assert lives(pid)
            node.wants(replace(old, wanted=Wanted.STOPPED), new)
            await until(lambda: node.state(new) in {S.STARTING, S.LOADED, S.READY}, "it starts")
            assert not lives(pid)
            await node.reaches(new, S.READY)
            await node.reaches(old, S.GONE)

    scene(life())


def test_a_lost_connection_shows_as_the_reason_of_a_ready_copy(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec(environment={"FAKE_LOST": "no broker at localhost:1883"}))
            node.wants(wish)
            assert (await node.reaches(wish, S.READY)).reason == "no broker at localhost:1883"

    scene(life())


def test_an_older_snapshot_is_refused(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            node.supervisor.accept(Desired("c1", 2, 5, ()))
            for epoch, generation in ((2, 4), (1, 99)):
                with pytest.raises(FoglineError, match=r"is older than 2\.5"):
                    node.supervisor.accept(Desired("c1", epoch, generation, (a_wish(a_spec()),)))
            node.supervisor.accept(Desired("c1", 2, 5, ()))
            assert node.store.copies() == []

    scene(life())


def test_stored_before_acted_on(tmp_path: Path) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            with closing(sqlite3.connect(tmp_path / "n" / "state.db")) as other:
                wish = a_wish(a_spec())
                node.wants(wish)
                assert node.state(wish) is None, "nothing was done yet"
                assert other.execute("SELECT assignment FROM copies").fetchall() == [(wish.id,)]
            node.store._db.execute("PRAGMA max_page_count = 1")
            late = a_wish(replace(a_spec("late"), cluster="c" * 100_000))
            with pytest.raises(FoglineError, match="is not acted on"):
                node.wants(wish, late)
            await node.reaches(wish, S.READY)
            assert node.sees(late) is None

    scene(life())


def test_a_driver_that_cannot_start_is_asked_again_and_can_be_stopped(tmp_path: Path) -> None:
    async def life() -> None:
        driver = MockDriver(Failures(refuse_start="no room"))
        async with a_node(tmp_path / "n", driver=driver) as node:
            wish = a_wish(a_spec())
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.restarts >= 2, "it was tried again")
            assert (await node.reaches(wish, S.RESTARTING)).reason == "no room"
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)

    scene(life())


def test_a_mock_that_ignores_everything_but_kill(tmp_path: Path) -> None:
    async def life() -> None:
        driver = MockDriver(Failures(ignores_terminate=True))
        async with a_node(tmp_path / "n", driver=driver) as node:
            wish = a_wish(a_spec())
            node.wants(wish)
            await until(lambda: (seen := node.sees(wish)) and seen.pid, "it runs")
            node.wants(replace(wish, wanted=Wanted.STOPPED))
            await node.reaches(wish, S.GONE)
            assert not any(handle.running for handle in driver.machine.running.values())

    scene(life())


@pytest.mark.parametrize("wrong", ["digest", "spec"])
def test_a_spec_that_cannot_be_is_a_reason(tmp_path: Path, wrong: str) -> None:
    async def life() -> None:
        async with a_node(tmp_path / "n") as node:
            wish = a_wish(a_spec())
            if wrong == "digest":
                wish = replace(wish, spec=wish.spec + b" ")
            else:
                wish = replace(
                    wish, spec=b"{}", spec_digest="44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
                )
            node.wants(wish)
            reason = (await node.reaches(wish, S.FAILED)).reason
            assert ("digest says" if wrong == "digest" else "not a segment spec") in reason

    scene(life())
