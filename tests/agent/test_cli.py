"""The command `fogline-agent` as a process: what it refuses, how it starts, what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from fogline.agent.config import parse_ports, parse_size
from fogline.agent.host.workspace import Workspace, read_json
from fogline.agent.store.sqlite import Membership, Phase, Store
from fogline.v1 import common_pb2 as common
from fogline.wire.terms import FoglineError
from support.agent_builders import a_spec, a_wish, lives, until
from support.agent_coordinator import FakeCoordinator

COMMAND = [sys.executable, "-m", "fogline.agent.cli"]
STAND_IN = [sys.executable, str(Path(__file__).parent.parent / "support" / "agent_with_stand_in.py")]


def refused(*arguments: str) -> tuple[int, str]:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def run_arguments(state_dir: Path, **changes: str) -> list[str]:
    given = {"coordinator": "127.0.0.1:7700", "name": "n1", "layer": "edge", "state_dir": str(state_dir)} | changes
    return ["run", *(part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", value))]


WRONG = [
    ({"coordinator": "nowhere"}, 2, "is not HOST:PORT"),
    ({"coordinator": "10.0.0.1:7700"}, 12, "add --insecure"),
    ({"name": "a/b"}, 2, "is not a node name"),
    ({"layer": "desert"}, 2, "is not one of edge, fog, cloud"),
    ({"label": "north"}, 2, "is not KEY=VALUE"),
    ({"artifact_cap": "4GB"}, 2, "is not a size, for example 4GiB or 500MiB"),
    ({"artifact_cap": "much"}, 2, "is not a size"),
]


@pytest.mark.e2e
@pytest.mark.parametrize(("changes", "code", "sentence"), WRONG)
def test_a_wrong_value_is_one_sentence(tmp_path: Path, changes: dict[str, str], code: int, sentence: str) -> None:
    got, said = refused(*run_arguments(tmp_path / "n", **changes))
    assert got == code
    assert sentence in said
    assert said.count("\n") == 1
    assert said.startswith("fogline-agent: ")


@pytest.mark.e2e
def test_a_state_dir_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = refused(*run_arguments(tmp_path / "file"))
    assert (code, said.count("\n")) == (2, 1)
    code, said = refused(*run_arguments(tmp_path / "file" / "below"))
    assert code == 2
    assert "cannot be used" in said.splitlines()[-1]
    code, said = refused("adopt", "--state-dir", str(tmp_path))
    assert (code, "no agent has ever run" in said) == (3, True)


@pytest.mark.e2e
@pytest.mark.parametrize("command", ["run", "adopt", "prune"])
def test_help_has_an_example_and_no_secrets(command: str) -> None:
    ended = subprocess.run([*COMMAND, command, "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert f"fogline-agent {command} --" in ended.stdout
    assert "--tied" not in ended.stdout


def test_sizes() -> None:
    assert [parse_size(each) for each in ("1KiB", "500MiB", "4GiB", "2TiB")] == [1 << 10, 500 << 20, 4 << 30, 2 << 40]


def test_ports() -> None:
    assert [parse_ports(each) for each in ("31000-31999", "80-80")] == [(31000, 31999), (80, 80)]
    for wrong in ("31000", "0-5", "5-4", "65000-65536", "-5-7", "a-b"):
        with pytest.raises(FoglineError, match="is not FIRST-LAST, two ports"):
            parse_ports(wrong)


class Agent:
    """A real agent process, with the stand-in for the runtime, and what it wrote."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    def said(self, what: str) -> bool:
        return what in self.log.read_text()

    async def ends(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 20)


@asynccontextmanager
async def an_agent(state_dir: Path, address: str, *more: str) -> AsyncIterator[Agent]:
    log = state_dir.with_name(f"{state_dir.name}.log")
    arguments = run_arguments(state_dir, coordinator=address)
    with log.open("a") as file:
        process = await asyncio.create_subprocess_exec(*STAND_IN, *arguments, *more, stderr=file)
    agent = Agent(process, log)
    try:
        yield agent
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def observed(coordinator: FakeCoordinator, assignment: str) -> common.CopyObserved:
    copies = coordinator.observations[-1].copies if coordinator.observations else []
    return next((copy for copy in copies if copy.assignment == assignment), common.CopyObserved())


async def ready(coordinator: FakeCoordinator, assignment: str) -> int:
    await until(
        lambda: observed(coordinator, assignment).state == common.COPY_STATE_READY, f"{assignment} is ready", 20
    )
    return observed(coordinator, assignment).pid


def scene(coroutine: object) -> None:
    asyncio.run(coroutine)  # type: ignore[arg-type]


def end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.e2e
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stages_outlive_the_agent_whatever_ends_it(tmp_path: Path, how: signal.Signals) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        coordinator = FakeCoordinator()
        async with coordinator.serving():
            async with an_agent(tmp_path / "n", coordinator.address) as agent:
                coordinator.desire(1, wish)
                pid = await ready(coordinator, wish.id)
                agent.process.send_signal(how)
                assert await agent.ends() == (-9 if how is signal.SIGKILL else 0)
            assert lives(pid)
            coordinator.observations.clear()
            async with an_agent(tmp_path / "n", coordinator.address) as agent:
                assert await ready(coordinator, wish.id) == pid
                assert coordinator.observations[0].copies[0].state == common.COPY_STATE_READY, "known at once"
                assert observed(coordinator, wish.id).restarts == 0
            end(pid)

    scene(life())


@pytest.mark.e2e
def test_without_a_coordinator_it_starts_what_its_own_disk_says(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        workspace = Workspace.of(tmp_path / "n", wish.key)
        (tmp_path / "n").mkdir()
        workspace.create(wish)
        with closing(Store(tmp_path / "n" / "state.db")) as store:
            store.save_desired(Membership("c1", 1, 1), [wish])
            store.save_progress(wish.key, Phase.PREPARED)
        async with an_agent(tmp_path / "n", "127.0.0.1:9") as agent:
            await until(lambda: "stage starts as" in _text(workspace.log), "the stage runs", 20)
            await until(lambda: agent.said("no coordinator answers at 127.0.0.1:9"), "and it says why it is alone")
            pid = int(read_json(workspace.path / "shim.json")["pid"])
            assert lives(pid)
        end(pid)

    scene(life())


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.e2e
def test_a_second_agent_on_one_state_dir_is_refused(tmp_path: Path) -> None:
    async def life() -> None:
        async with an_agent(tmp_path / "n", "127.0.0.1:9") as agent:
            await until(lambda: agent.said("no coordinator answers"), "it runs", 20)
            code, said = await asyncio.to_thread(refused, *run_arguments(tmp_path / "n"))
            assert code == 6
            assert f"another agent runs with --state-dir {tmp_path / 'n'}" in said
            assert "Traceback" not in said

    scene(life())


@pytest.mark.e2e
@pytest.mark.parametrize("how", ["SIGTERM", "its parent dies"])
def test_tied_it_ends_its_stages_first(tmp_path: Path, how: str) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with FakeCoordinator().serving() as coordinator:
            arguments = [*STAND_IN, *run_arguments(tmp_path / "n", coordinator=coordinator.address), "--tied"]
            script = f"import subprocess; p = subprocess.Popen({arguments}); print(p.pid, flush=True); p.wait()"
            parent = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                script,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            assert parent.stdout is not None
            agent_pid = int(await parent.stdout.readline())
            coordinator.desire(1, wish)
            pid = await ready(coordinator, wish.id)
            if how == "SIGTERM":
                os.kill(agent_pid, signal.SIGTERM)
            else:
                parent.kill()
            await until(lambda: not lives(agent_pid), "the agent has ended", 20)
            assert not lives(pid)
            await parent.wait()

    scene(life())
