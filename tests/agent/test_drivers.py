"""One contract for every driver: the mock earns its trust by passing what real processes pass."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from fogline.agent.drivers.base import Driver, Exit, Handle, Launch
from fogline.agent.drivers.mock import Failures, MockDriver, MockHandle, MockMachine
from fogline.agent.drivers.process import ProcessDriver
from fogline.agent.host.facts import boot_id
from fogline.runtimes.container import shim
from fogline.wire.terms import FoglineError
from support.agent_builders import Scripted, lives, until
from support.containers import InContainer, needs_engine

STAYS = "import time, signal; print('here', flush=True); time.sleep(600)"
IGNORES = "import time, signal; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"


class Subject(Protocol):
    """A way to get drivers that start what a test needs."""

    def stays(self) -> Driver: ...
    def ignores_terminate(self) -> Driver: ...
    def ends_with(self, code: int) -> Driver: ...
    def cannot_start(self) -> Driver: ...


def script(text: str) -> ProcessDriver:
    return Scripted(sys.executable, "-I", "-S", "-c", text)


class RealProcesses:
    def stays(self) -> Driver:
        return script(STAYS)

    def ignores_terminate(self) -> Driver:
        return script(IGNORES)

    def ends_with(self, code: int) -> Driver:
        return script(f"raise SystemExit({code})")

    def cannot_start(self) -> Driver:
        return Scripted("/nowhere/python")


class Mocks:
    def __init__(self) -> None:
        self.machine = MockMachine()

    def stays(self) -> Driver:
        return MockDriver(machine=self.machine)

    def ignores_terminate(self) -> Driver:
        return MockDriver(Failures(ignores_terminate=True), self.machine)

    def ends_with(self, code: int) -> Driver:
        return MockDriver(Failures(ends_at_once=Exit(code)), self.machine)

    def cannot_start(self) -> Driver:
        return MockDriver(Failures(refuse_start="the process did not start"), self.machine)


def launch(path: Path, **changes: object) -> Launch:
    path.mkdir(exist_ok=True)
    (path / "spec.json").write_text("{}")
    given: dict[str, object] = {"bind": False} | changes
    return Launch((), path, path / "artifacts", path / "letters.db", **given)  # type: ignore[arg-type]


@asynccontextmanager
async def started(driver: Driver, path: Path) -> AsyncIterator[Handle]:
    """A handle that leaves nothing behind."""
    handle = await driver.start(launch(path))
    try:
        yield handle
    finally:
        handle.kill()
        await asyncio.wait_for(handle.wait(), 30)
        handle.close()


class RealContainers:
    """From an image made by hand: Python, the shim and nothing else."""

    def stays(self) -> Driver:
        return InContainer("python3", "-I", "-S", "-c", STAYS)

    def ignores_terminate(self) -> Driver:
        return InContainer("python3", "-I", "-S", "-c", IGNORES)

    def ends_with(self, code: int) -> Driver:
        return InContainer("python3", "-I", "-S", "-c", f"raise SystemExit({code})")

    def cannot_start(self) -> Driver:
        return InContainer("/nowhere/python")


Check = Callable[[Subject, Path], Awaitable[None]]


async def starts_and_is_killed(subject: Subject, path: Path) -> None:
    async with started(subject.stays(), path) as handle:
        assert handle.pid > 0
        waiting = asyncio.create_task(handle.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        handle.kill()
        assert await waiting == Exit(signal=signal.SIGKILL)
        assert await handle.wait() == Exit(signal=signal.SIGKILL), "asked again, it says the same"


async def terminates(subject: Subject, path: Path) -> None:
    async with started(subject.stays(), path) as handle:
        handle.terminate()
        assert await asyncio.wait_for(handle.wait(), 30) == Exit(signal=signal.SIGTERM)


async def ignored_terminate_leaves_kill(subject: Subject, path: Path) -> None:
    async with started(subject.ignores_terminate(), path) as handle:
        if not isinstance(subject, Mocks):
            await until(lambda: "here" in (path / "stage.log").read_text(), "the script installed its handler")
        handle.terminate()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.wait(), 0.2)
        handle.kill()
        assert await handle.wait() == Exit(signal=signal.SIGKILL)


async def tells_the_exit_code(subject: Subject, path: Path) -> None:
    for code in (0, 64, 3):
        async with started(subject.ends_with(code), path / str(code)) as handle:
            assert await asyncio.wait_for(handle.wait(), 30) == Exit(code)
            handle.terminate()
            handle.kill()


async def refuses_with_a_sentence(subject: Subject, path: Path) -> None:
    driver = subject.cannot_start()
    with pytest.raises(FoglineError, match="did not start"):
        await driver.start(launch(path))


async def is_adopted_with_its_pid(subject: Subject, path: Path) -> None:
    async with started(subject.stays(), path) as handle:
        again = await subject.stays().adopt(path)
        assert again is not None
        assert again.pid == handle.pid
        again.kill()
        assert await asyncio.wait_for(again.wait(), 10) == Exit(signal=signal.SIGKILL)
        again.close()


async def adopts_nothing_where_nothing_runs(subject: Subject, path: Path) -> None:
    driver = subject.stays()
    assert await driver.adopt(path) is None
    async with started(driver, path) as handle:
        handle.kill()
        await handle.wait()
        assert await driver.adopt(path) is None


async def never_starts_twice_in_one_workspace(subject: Subject, path: Path) -> None:
    driver = subject.stays()
    async with started(driver, path) as handle:
        with pytest.raises(FoglineError, match="not started twice"):
            await driver.start(launch(path))
        handle.terminate()
        await handle.wait()


async def close_leaves_it_running(subject: Subject, path: Path) -> None:
    handle = await subject.stays().start(launch(path))
    handle.close()
    again = await subject.stays().adopt(path)
    assert again is not None
    again.kill()
    await again.wait()
    again.close()


CONTRACT: list[Check] = [
    starts_and_is_killed,
    terminates,
    ignored_terminate_leaves_kill,
    tells_the_exit_code,
    refuses_with_a_sentence,
    is_adopted_with_its_pid,
    adopts_nothing_where_nothing_runs,
    never_starts_twice_in_one_workspace,
    close_leaves_it_running,
]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract_mock(check: Check, tmp_path: Path) -> None:
    asyncio.run(_on(check, Mocks(), tmp_path))


@pytest.mark.e2e
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract_process(check: Check, tmp_path: Path) -> None:
    asyncio.run(_on(check, RealProcesses(), tmp_path))


@pytest.mark.e2e
@pytest.mark.containers
@needs_engine
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract_container(check: Check, tmp_path: Path) -> None:
    asyncio.run(_on(check, RealContainers(), tmp_path))


async def _on(check: Check, subject: Subject, path: Path) -> None:
    await check(subject, path / "workspace") if check is not tells_the_exit_code else await check(subject, path)


def test_a_mock_process_can_end_by_itself(tmp_path: Path) -> None:
    async def scene() -> None:
        driver = MockDriver()
        handle = await driver.start(launch(tmp_path / "w"))
        assert isinstance(handle, MockHandle)
        handle.end(Exit(70))
        assert await handle.wait() == Exit(70)

    asyncio.run(scene())


@pytest.mark.e2e
def test_killing_the_stage_is_noted_by_its_shim(tmp_path: Path) -> None:
    async def scene() -> None:
        async with started(script(STAYS), tmp_path / "w") as handle:
            os.kill(handle.pid, signal.SIGKILL)
            assert await asyncio.wait_for(handle.wait(), 30) == Exit(signal=signal.SIGKILL)
            noted = json.loads((tmp_path / "w" / "exit.json").read_text())
            assert noted["signal"] == signal.SIGKILL
            assert noted["at"] > 0

    asyncio.run(scene())


@pytest.mark.e2e
def test_killing_the_shim_leaves_the_stage_watched_and_adoptable(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "w"
        async with started(script(STAYS), path) as handle:
            await until(lambda: "here" in (path / "stage.log").read_text(), "it has begun")
            noted = json.loads((path / "shim.json").read_text())
            os.kill(noted["shim_pid"], signal.SIGKILL)
            await until(lambda: not lives(noted["shim_pid"]), "the shim is gone")
            assert lives(handle.pid)
            again = await ProcessDriver().adopt(path)
            assert again is not None
            assert again.pid == handle.pid
            handle.kill()
            assert await asyncio.wait_for(handle.wait(), 30) == Exit(), "nobody saw how it ended"
            assert await asyncio.wait_for(again.wait(), 10) == Exit()
            again.close()

    asyncio.run(scene())


@pytest.mark.e2e
@pytest.mark.parametrize("lie", ["start", "boot_id", "pid"])
def test_a_pid_that_is_somebody_else_is_left_alone(tmp_path: Path, lie: str) -> None:
    async def scene() -> None:
        path = tmp_path / "w"
        path.mkdir()
        bystander = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", STAYS)
        try:
            pid, start = bystander.pid, shim.start_ticks(bystander.pid)
            noted = {"pid": pid, "start": start, "shim_pid": pid, "shim_start": start, "boot_id": boot_id()}
            wrong = {"start": start - 1, "boot_id": "another boot", "pid": 2**22 + 1}
            (path / "shim.json").write_text(json.dumps(noted))
            honest = await ProcessDriver().adopt(path)
            assert honest is not None, "without the lie it would be adopted"
            honest.close()
            (path / "shim.json").write_text(json.dumps(noted | {lie: wrong[lie]}))
            assert await ProcessDriver().adopt(path) is None
            assert lives(bystander.pid)
        finally:
            bystander.kill()
            await bystander.wait()

    asyncio.run(scene())


@pytest.mark.e2e
def test_a_shim_that_was_only_just_started_is_waited_for(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "w"
        path.mkdir()
        bystander = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", STAYS)
        try:
            with (path / "shim.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                adopting = asyncio.create_task(ProcessDriver().adopt(path))
                done, _ = await asyncio.wait({adopting}, timeout=0.1)
                assert not done, "a shim lives: it will say who it started"
                pid, start = bystander.pid, shim.start_ticks(bystander.pid)
                noted = {"pid": pid, "start": start, "shim_pid": pid, "shim_start": start, "boot_id": boot_id()}
                (path / "draft").write_text(json.dumps(noted))
                (path / "draft").rename(path / "shim.json")
                handle = await asyncio.wait_for(adopting, 5)
                assert handle is not None
                handle.close()
        finally:
            bystander.kill()
            await bystander.wait()

    asyncio.run(scene())


@pytest.mark.e2e
def test_what_the_stage_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    forks = (
        "import os, time, sys\n"
        "for own_session in (False, True):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os.setsid() if own_session else None\n"
        "        time.sleep(600)\n"
        "    print(pid, flush=True)\n"
        "time.sleep(600)\n"
    )

    async def scene() -> None:
        async with started(script(forks), tmp_path / "w") as handle:
            log = tmp_path / "w" / "stage.log"
            await until(lambda: len(log.read_text().split()) == 2, "both children are there")
            children = [int(pid) for pid in log.read_text().split()]
            assert all(lives(pid) for pid in children)
            os.kill(handle.pid, signal.SIGKILL)
            await handle.wait()
            assert not any(lives(pid) for pid in children)

    asyncio.run(scene())


@pytest.mark.e2e
def test_the_stage_inherits_nothing(tmp_path: Path) -> None:
    looks = (
        "import os, sys, signal\n"
        "print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if int(fd) < 90))\n"
        "print(os.readlink('/proc/self/fd/0'), os.getcwd(), os.environ['FROM_SPEC'])\n"
        "print(os.getsid(0) != os.getpgrp() == os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "print(sys.argv[1:])\n"
    )

    async def scene() -> None:
        path = tmp_path / "w"
        leaked = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        try:
            handle = await script(looks).start(launch(path, environment={"FROM_SPEC": "yes"}, bind=True))
            await handle.wait()
            handle.close()
        finally:
            os.close(leaked)
        lines = (path / "stage.log").read_text().splitlines()
        assert lines[0] == "[0, 1, 2, 3]", "3 is the listing itself"
        assert lines[1] == f"/dev/null {path} yes"
        assert lines[2] == "True set()"
        places = ["--artifacts", str(path / "artifacts"), "--dead-letters", str(path / "letters.db")]
        expected = ["run", str(path / "spec.json"), "--workspace", str(path)]
        assert lines[3] == str([*expected, *places, "--bind"])

    asyncio.run(scene())


def test_the_log_is_cut_to_two_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "LOG_BYTES", 100)
    log = tmp_path / "stage.log"
    log.write_bytes(b"a" * 100)
    shim.rotate_log(str(log))
    assert log.stat().st_size == 100, "at the limit nothing happens"
    with log.open("ab") as stage:  # as the stage holds it
        stage.write(b"b")
        stage.flush()
        shim.rotate_log(str(log))
        stage.write(b"c")
    assert log.read_bytes() == b"c"
    assert (tmp_path / "stage.log.1").read_bytes() == b"a" * 100 + b"b"
