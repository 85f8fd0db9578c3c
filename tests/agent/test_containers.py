"""What the engine enforces, what only it can tell, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme

from fogline.agent.drivers import in_memory
from fogline.agent.drivers.base import Exit
from fogline.agent.drivers.docker import name_of
from fogline.agent.drivers.docker_engine import Engine
from fogline.agent.host.workspace import Workspace
from fogline.wire.terms import FoglineError
from support.agent_builders import until
from support.certificates import certify
from support.containers import IN_CONTAINERS, InContainer, a_launch

pytestmark = IN_CONTAINERS

PYTHON = ("python3", "-I", "-S", "-c")
STAYS = "import time; print('here', flush=True); time.sleep(600)"
HOG = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
FORKS = """
import os, time
try:
    for number in range(2000):
        if os.fork() == 0:
            time.sleep(600)
except OSError as error:
    print("stopped at", number, error.strerror, flush=True)
"""


def scene(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def to_the_end(driver: InContainer, path: Path) -> Exit:
    handle = await driver.start(a_launch(path))
    try:
        return await asyncio.wait_for(handle.wait(), 30)
    finally:
        handle.kill()
        handle.close()


def test_what_outgrows_its_memory_is_told_its_limit(tmp_path: Path) -> None:
    async def life() -> None:
        path = tmp_path / "s" / "copies" / "w"
        how = await to_the_end(InContainer(*PYTHON, HOG, memory_bytes=64 << 20), path)
        assert how == Exit(signal=signal.SIGKILL, out_of_memory=True, memory_limit_bytes=64 << 20)
        said = "killed by signal 9 (SIGKILL): out of memory, its limit is 64 MiB"
        assert Workspace(path).noted_ending().sentence() == said

    scene(life())


def test_a_fork_bomb_stays_inside(tmp_path: Path) -> None:
    async def life() -> None:
        path = tmp_path / "s" / "copies" / "w"
        assert await to_the_end(InContainer(*PYTHON, FORKS), path) == Exit(0)
        assert "Resource temporarily unavailable" in (path / "stage.log").read_text()

    scene(life())


def test_it_can_write_nowhere_but_in_its_workspace(tmp_path: Path) -> None:
    looks = """
import os
print(os.getuid() != 0)
for place in ("/", "/etc", "/opt", "/workspace", "/tmp"):
    try:
        open(place + "/probe", "w").close()
        print("may write to", place)
    except OSError as error:
        print(place, error.strerror)
"""

    async def life() -> None:
        path = tmp_path / "s" / "copies" / "w"
        await to_the_end(InContainer(*PYTHON, looks), path)
        refused = [f"{place} Read-only file system" for place in ("/", "/etc", "/opt")]
        lines = (path / "stage.log").read_text().splitlines()
        assert lines == ["True", *refused, "may write to /workspace", "may write to /tmp"]

    scene(life())


def test_only_its_own_secrets_are_in_there_and_only_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = """
import os, time
folder = os.environ["FOGLINE_SECRETS"]
mounted = [line.split() for line in open("/proc/mounts") if folder in line]
mode = oct(os.stat(folder + "/broker").st_mode)
print(os.listdir(folder), open(folder + "/broker").read(), mounted[0][2], mode, flush=True)
time.sleep(600)
"""

    async def life() -> None:
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        for name in ("broker", "other"):
            (secrets / name).write_text(f"the {name}")
            (secrets / name).chmod(0o600)
        monkeypatch.setenv("FOGLINE_SECRETS", str(secrets))
        path = tmp_path / "s" / "copies" / f"w{os.getpid()}"
        handle = await InContainer(*PYTHON, looks, secrets=("broker",)).start(a_launch(path))
        log = path / "stage.log"
        await until(log.read_text, "it has looked")
        assert log.read_text() == "['broker'] the broker tmpfs 0o100600\n"
        laid_out = Path("/dev/shm") / f"fogline-{os.geteuid()}" / path.name
        assert laid_out.is_dir()
        handle.kill()
        await handle.wait()
        handle.close()
        assert not laid_out.exists()

    scene(life())


def test_the_certificate_is_in_there_for_who_speaks_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = """
import os, time
folder = os.environ["FOGLINE_TLS"]
print({name: oct(os.stat(folder + "/" + name).st_mode) for name in sorted(os.listdir(folder))}, flush=True)
time.sleep(600)
"""

    async def life() -> None:
        folder = certify(tmp_path / "tls", trustme.CA())
        (folder / "other").touch()
        monkeypatch.setenv("FOGLINE_TLS", str(folder))
        path = tmp_path / "s" / "copies" / f"t{os.getpid()}"
        handle = await InContainer(*PYTHON, looks, tls=True).start(a_launch(path))
        log = path / "stage.log"
        await until(log.read_text, "it has looked")
        modes = {"ca.pem": "0o100644", "certificate.pem": "0o100644", "key.pem": "0o100600"}
        assert log.read_text() == f"{modes}\n"
        handle.kill()
        await handle.wait()
        handle.close()
        assert not (Path("/dev/shm") / f"fogline-{os.geteuid()}" / path.name).exists()

    scene(life())


def test_secrets_are_not_laid_where_others_can_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def life() -> None:
        monkeypatch.setattr(in_memory, "MEMORY", tmp_path)
        theirs = tmp_path / f"fogline-{os.geteuid()}"
        theirs.mkdir()
        theirs.chmod(0o777)
        with pytest.raises(FoglineError, match="is not ours alone: remove it"):
            await InContainer(*PYTHON, STAYS, secrets=("broker",)).start(a_launch(tmp_path / "s" / "copies" / "w"))
        assert not list(theirs.iterdir())

    scene(life())


def test_one_that_died_while_no_agent_was_there_is_judged_and_removed(tmp_path: Path) -> None:
    async def life() -> None:
        path = tmp_path / "s" / "copies" / "w"
        handle = await InContainer(*PYTHON, STAYS, memory_bytes=64 << 20).start(a_launch(path))
        pid = handle.pid
        handle.close()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{pid}").exists(), "it is gone")
        assert await InContainer().adopt(path) is None
        assert json.loads((path / "exit.json").read_text()) == {"code": None, "signal": 9, "oom": False}
        assert Engine().find(name_of(path)) is None

    scene(life())


def test_one_whose_start_was_never_noted_is_found_by_its_name(tmp_path: Path) -> None:
    async def life() -> None:
        path = tmp_path / "s" / "copies" / "w"
        handle = await InContainer(*PYTHON, STAYS).start(a_launch(path))
        (path / "container.json").unlink()
        again = await InContainer().adopt(path)
        assert again is not None
        assert (again.pid, again.known_as) == (handle.pid, handle.known_as)
        again.kill()
        assert await asyncio.wait_for(again.wait(), 10) == Exit(signal=signal.SIGKILL)
        again.close()
        handle.close()

    scene(life())
