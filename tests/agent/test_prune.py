"""What nothing needs goes, what anything needs stays: with the agent running, and without."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent import daemon
from fogline.agent.core.desired import Assignment
from fogline.agent.host import leftovers, runtime
from fogline.agent.host.artifacts import ArtifactCache
from fogline.agent.host.environments import Environments
from fogline.agent.host.workspace import Workspace
from fogline.agent.pruning import SOCKET, Pruning, Removal, ask
from fogline.agent.store.sqlite import Membership, Phase, Store
from fogline.wire.terms import ErrorKind, FoglineError, Wanted
from support.agent_builders import a_spec, a_wish, until
from support.agent_coordinator import FakeCoordinator
from support.agent_node import unreachable

COMMAND = [sys.executable, "-m", "fogline.agent.cli"]
LOCKS = {name: name * 64 for name in "123"}
MODELS = {name: name * 64 for name in "abcd"}


def an_environment(state_dir: Path, digest: str, cached: Path, runtime_name: str) -> Path:
    """One that shares a file with uv's cache, as hard links do."""
    home = state_dir / "environments" / digest
    packages = runtime.site_packages(home)
    packages.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(sys.executable)
    os.link(cached, packages / "package.py")
    (packages / "own.pyc").write_bytes(bytes(50_000))
    runtime.point(home, state_dir / "runtime" / runtime_name)
    return home


class Node:
    """A state folder by hand: two copies, and more than they need."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        for place in ("artifacts", "environments", "runtime", "uv-cache"):
            (state_dir / place).mkdir(parents=True)
        for digest in MODELS.values():
            (state_dir / "artifacts" / digest).write_bytes(bytes(100_000))
        (state_dir / "artifacts" / f"{'e' * 64}.partial").write_bytes(bytes(1000))
        for name, digest in LOCKS.items():
            cached = state_dir / "uv-cache" / "archive-v0" / f"of-{name}" / "package.py"
            cached.parent.mkdir(parents=True)
            cached.write_bytes(bytes(200_000))
            an_environment(state_dir, digest, cached, f"of-{name}")
        for name in ("of-1", "of-2", "of-3", "noted", "old"):
            (state_dir / "runtime" / name).mkdir()
        self.first = a_wish(replace(a_spec("first", artifacts={MODELS["a"]: "onnx"}), lock=LOCKS["1"]))
        self.second = a_wish(a_spec("second", artifacts={MODELS["b"]: "code"}))
        gone = a_wish(a_spec("gone", artifacts={MODELS["c"]: "onnx"}), Wanted.STOPPED)
        Workspace.of(state_dir, self.first.key).create(self.first)
        Workspace.of(state_dir, self.first.key).note_runtime(state_dir / "runtime" / "noted")
        with closing(Store(state_dir / "state.db")) as store:
            store.save_desired(Membership("c1", 1, 1), [self.first, self.second, gone])
            store.save_progress(self.second.key, Phase.FAILED)
            store.save_progress(gone.key, Phase.GONE)

    def names(self) -> dict[str, set[str]]:
        places = ("artifacts", "environments", "runtime", "uv-cache/archive-v0")
        return {place: {path.name for path in (self.state_dir / place).iterdir()} for place in places}

    def pruning(self, *wishes: Assignment) -> Pruning:
        cache = ArtifactCache(self.state_dir / "artifacts", unreachable)
        return Pruning(self.state_dir, Environments(self.state_dir, cache), lambda: wishes)


NEEDED = {
    "artifacts": {MODELS["a"], MODELS["b"]},
    "environments": {LOCKS["1"]},
    "runtime": {"of-1", "noted"},
    "uv-cache/archive-v0": {"of-1"},
}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "n")


def prune(state_dir: Path, *more: str) -> list[str]:
    command = [*COMMAND, "prune", "--state-dir", str(state_dir), *more]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_without_an_agent(node: Node) -> None:
    before = node.names()
    removed = daemon.prune(node.state_dir, dry_run=True)
    assert node.names() == before
    assert daemon.prune(node.state_dir, dry_run=False) == removed
    assert node.names() == NEEDED
    assert daemon.prune(node.state_dir, dry_run=False) == []
    assert not list(node.state_dir.glob(".trash-*"))


def test_it_says_how_much_the_disk_gets_back(node: Node) -> None:
    free = {(each.kind, each.name): each.freed_bytes for each in daemon.prune(node.state_dir, dry_run=False)}
    assert free["artifact", MODELS["c"]] in range(100_000, 110_000)
    shared = [free["environment", LOCKS["2"]], free["cache", "of-2"]]
    assert shared[0] in range(50_000, 60_000), "its own bytecode; the package is in the cache as well"
    assert shared[1] in range(200_000, 210_000)
    assert free["runtime", "old"] == 0


def test_what_is_wanted_since_it_looked_stays(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    pruning, late = node.pruning(), a_wish(replace(a_spec(artifacts={MODELS["d"]: "onnx"}), lock=LOCKS["3"]))
    looked = leftovers.freed_bytes

    def wanted_meanwhile(*arguments: object) -> list[int]:
        pruning._wishes = lambda: [late]
        return looked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(leftovers, "freed_bytes", wanted_meanwhile)
    asyncio.run(pruning.prune(dry_run=False))
    kept = node.names()
    assert kept["artifacts"] == {MODELS["d"]}
    assert kept["environments"] == {LOCKS["3"]}
    assert "of-3" in kept["runtime"]
    command = asyncio.run(pruning._environments.command(replace(a_spec(), lock=LOCKS["3"])))
    assert Path(command[0]).exists()


def test_wheels_are_needed_until_their_environment_is_whole(node: Node) -> None:
    wheel = {"file": "x-1-py3-none-any.whl", "name": "x", "sha256": MODELS["d"], "size": 1, "version": "1"}
    lock = json.dumps({"fogline-lock": 1, "target": "t", "wheels": [wheel]})
    (node.state_dir / "artifacts" / ("9" * 64)).write_text(lock)
    wish = a_wish(replace(a_spec(), lock="9" * 64))
    asyncio.run(node.pruning(wish).prune(dry_run=False))
    assert node.names()["artifacts"] == {"9" * 64, MODELS["d"]}


def test_what_cannot_be_read_may_need_anything(node: Node) -> None:
    before, odd = node.names(), replace(node.first, spec=b"{}")
    with pytest.raises(FoglineError, match="is not what its digest says"):
        asyncio.run(node.pruning(odd).prune(dry_run=False))
    assert node.names() == before


def test_a_lost_store_does_not_make_copies_unneeded(node: Node) -> None:
    (node.state_dir / "state.db").write_bytes(b"")
    daemon.prune(node.state_dir, dry_run=False)
    kept = node.names()
    assert kept["environments"] == {LOCKS["1"]}
    assert kept["artifacts"] == {MODELS["a"]}


def test_where_no_agent_ever_ran(tmp_path: Path) -> None:
    with pytest.raises(FoglineError, match="no agent has ever run"):
        daemon.prune(tmp_path, dry_run=False)


def test_an_agent_that_is_asked(node: Node) -> None:
    async def life() -> tuple[list[Removal], list[Removal]]:
        serving = asyncio.create_task(node.pruning(node.first, node.second).serve())
        await until((node.state_dir / SOCKET).exists, "it listens")
        would = await ask(node.state_dir, dry_run=True)
        before = node.names()
        did = await ask(node.state_dir, dry_run=False)
        assert before != node.names() == NEEDED
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return would, did

    would, did = asyncio.run(life())
    assert would == did
    with pytest.raises(FoglineError, match="does not answer") as caught:
        asyncio.run(ask(node.state_dir, dry_run=True))
    assert caught.value.kind is ErrorKind.UNREACHABLE


def test_an_agent_that_cannot_says_why(node: Node) -> None:
    async def life() -> None:
        serving = asyncio.create_task(node.pruning(replace(node.first, spec=b"{}")).serve())
        await until((node.state_dir / SOCKET).exists, "it listens")
        with pytest.raises(FoglineError, match="is not what its digest says"):
            await ask(node.state_dir, dry_run=False)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(life())


@pytest.mark.e2e
def test_the_command_beside_a_running_agent(node: Node) -> None:
    async def life() -> None:
        async with FakeCoordinator().serving() as coordinator:
            arguments = ["--name", "n1", "--layer", "edge", "--state-dir", str(node.state_dir)]
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "run", "--coordinator", coordinator.address, *arguments, stderr=subprocess.DEVNULL
            )
            try:
                await until(lambda: coordinator.hellos, "it is connected", 20)
                await until((node.state_dir / SOCKET).exists, "it listens")
                lines = await asyncio.to_thread(prune, node.state_dir, "--dry-run")
                assert lines[-1].startswith("would free ")
                done = await asyncio.to_thread(prune, node.state_dir)
                assert done[:-1] == lines[:-1]
                assert f"{'environment':<12} {LOCKS['2'][:16]}" in "\n".join(done)
                assert done[-1].startswith("freed ")
            finally:
                process.terminate()
                await process.wait()

    asyncio.run(life())
    assert node.names()["artifacts"] == NEEDED["artifacts"]
    assert node.names()["environments"] == NEEDED["environments"]
