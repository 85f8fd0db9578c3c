"""What the shim promises whatever becomes of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fogline.agent.core.restarts import Ending
from fogline.agent.drivers.base import Exit, Launch
from fogline.agent.drivers.pids import end_group
from fogline.agent.drivers.process import ProcessDriver
from fogline.runtimes.container import shim
from fogline.wire.terms import FoglineError
from support.agent_builders import Scripted, lives, until

pytestmark = pytest.mark.e2e

STAYS = "import time; print('here', flush=True); time.sleep(600)"
FORKS = "import os, time; print(os.fork(), flush=True); time.sleep(600)"


def script(text: str) -> ProcessDriver:
    return Scripted(sys.executable, "-I", "-S", "-c", text)


def launch(path: Path) -> Launch:
    path.mkdir(exist_ok=True)
    return Launch((), path, path / "artifacts", path / "letters.db", bind=False)


@pytest.mark.parametrize("dies", ["before it notes", "after it noted"])
def test_a_stage_begins_only_once_it_is_noted(tmp_path: Path, dies: str) -> None:
    """The shim dies around its note: the command is either noted, or it never ran."""
    note = "note(pid)," if dies == "after it noted" else ""
    deadly = (
        "import os, signal\n"
        "from fogline.runtimes.container import shim\n"
        "note = shim.note_identity\n"
        f"shim.note_identity = lambda pid: ({note} os.kill(os.getpid(), signal.SIGKILL))\n"
        f"shim.main({str(tmp_path)!r}, [{sys.executable!r}, '-c', 'open(\"ran\", \"w\")'])\n"
    )
    with (tmp_path / "lock").open("w") as lock:
        ended = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({lock.fileno()}, 3)\n{deadly}"],
            pass_fds=[lock.fileno()],
            start_new_session=True,
            check=False,
        )
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "shim.json").exists() == (dies == "after it noted")
    if dies == "after it noted":
        pid = json.loads((tmp_path / "shim.json").read_text())["pid"]
        assert wait_until_gone(pid)
    assert not (tmp_path / "ran").exists(), "its shim never gave the word"


def wait_until_gone(pid: int) -> bool:
    async def gone() -> None:
        await until(lambda: not lives(pid), "it ends by itself")

    asyncio.run(gone())
    return True


def test_no_second_stage_beside_one_whose_shim_was_killed(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "w"
        handle = await script(STAYS).start(launch(path))
        await until(lambda: "here" in (path / "stage.log").read_text(), "it has begun")
        os.kill(json.loads((path / "shim.json").read_text())["shim_pid"], signal.SIGKILL)
        await until(lambda: not handle.attended, "the shim is gone")
        with pytest.raises(FoglineError, match=f"process {handle.pid} still runs in .*: not started twice"):
            await script(STAYS).start(launch(path))
        assert (path / "shim.json").exists(), "the next agent still finds it"
        handle.kill()
        await handle.wait()
        handle.close()

    asyncio.run(scene())


@pytest.mark.parametrize("ends", ["by itself", "by us"])
def test_without_a_shim_what_the_stage_left_is_ended_all_the_same(tmp_path: Path, ends: str) -> None:
    async def scene() -> None:
        path = tmp_path / "w"
        handle = await script(FORKS).start(launch(path))
        log = path / "stage.log"
        await until(lambda: len(log.read_text().split()) == 2, "both have spoken")
        child = next(int(word) for word in log.read_text().split() if word != "0")
        os.kill(json.loads((path / "shim.json").read_text())["shim_pid"], signal.SIGKILL)
        await until(lambda: not handle.attended, "the shim is gone")
        if ends == "by us":
            handle.kill()
        else:
            os.kill(handle.pid, signal.SIGKILL)
        assert await asyncio.wait_for(handle.wait(), 10) == Exit()
        await until(lambda: not lives(child), "the child too")
        handle.close()

    asyncio.run(scene())


def test_a_group_that_got_the_number_later_is_left_alone() -> None:
    stranger = subprocess.Popen([sys.executable, "-I", "-S", "-c", STAYS], start_new_session=True)
    try:
        end_group(stranger.pid, stranger.pid + 1)
        assert lives(stranger.pid)
        end_group(stranger.pid, stranger.pid)
        assert stranger.wait(10) == -signal.SIGKILL, "with its session's number it would have been meant"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_kill_for_lack_of_memory_has_its_own_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 3\noom 2\noom_kill 7\noom_group_kill 0\n")
    assert shim.kills_in(str(events)) == 7
    assert shim.kills_in(str(tmp_path / "absent")) == 0
    assert shim.kills_in("/proc/vmstat") >= 0
    noted = []
    monkeypatch.setattr(shim, "write_durably", lambda _, document: noted.append(document))
    monkeypatch.setattr(shim, "memory_kills", lambda: 8)
    for before, how in ((7, signal.SIGKILL), (8, signal.SIGKILL), (7, signal.SIGTERM)):
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", STAYS], process_group=0, stdout=subprocess.DEVNULL)
        os.kill(child.pid, how)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        monkeypatch.setattr(shim, "children", list)
        shim.note_exit(child.pid, before)
        child.returncode = 0  # it was reaped under its owner's feet
    assert [each["oom"] for each in noted] == [True, False, False]
    assert Ending(signal=9, out_of_memory=True).sentence() == "killed by signal 9 (SIGKILL): out of memory"
