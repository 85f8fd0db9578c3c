"""Environments made by a real uv from real wheels: shared, whole or not there, and only what their lock names."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.host import environments as subject
from fogline.agent.host import runtime
from fogline.agent.host.artifacts import ArtifactCache
from fogline.agent.host.environments import RUNTIME, Environments
from fogline.agent.host.workspace import Workspace
from fogline.agent.preparation import Preparation
from fogline.runtimes.spec import EndpointSpec, SegmentSpec
from fogline.wire.terms import ErrorKind, FoglineError, Wanted
from support.agent_builders import a_spec, a_wish
from support.real_wheels import Wheelhouse

pytestmark = pytest.mark.e2e

LISTING = "import json, importlib.metadata as m; print(json.dumps(sorted(d.name for d in m.distributions())))"


class Node:
    """Environments over a coordinator that is a dictionary."""

    def __init__(self, state_dir: Path, house: Wheelhouse, source: str = "store") -> None:
        state_dir.mkdir(exist_ok=True)
        self.state_dir = state_dir
        self.house = house
        self.asked: list[str] = []
        self.told: list[str] = []
        self.cache = ArtifactCache(state_dir / "artifacts", self._fetch)
        self.environments = Environments(state_dir, self.cache, source=source)

    async def _fetch(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        self.asked.append(digest)
        if digest not in self.house.blobs:
            raise FoglineError(ErrorKind.NOT_FOUND, f"artifact {digest[:8]} is not in the store")
        blob = self.house.blobs[digest]
        half = max(offset, len(blob) // 2)
        for piece in (blob[offset:half], blob[half:]):
            yield piece, len(blob)

    def made(self, lock: str) -> tuple[str, ...]:
        async def make() -> tuple[str, ...]:
            await self.environments.ensure(using(lock), self.told.append)
            return await self.environments.command(using(lock))

        return asyncio.run(make())

    def names(self) -> list[str]:
        folder = self.state_dir / "environments"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def house() -> Wheelhouse:
    return Wheelhouse()


@pytest.fixture
def node(tmp_path: Path, house: Wheelhouse) -> Node:
    return Node(tmp_path / "n", house)


def using(lock: str) -> SegmentSpec:
    return replace(a_spec(), lock=lock)


def run(command: tuple[str, ...], *arguments: str) -> str:
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def test_it_holds_what_its_lock_names_and_nothing_else(node: Node) -> None:
    lock = node.house.lock("numpy", "orjson")
    command = node.made(lock)
    home = node.state_dir / "environments" / lock
    assert command == (str(home / "bin" / "python"), "-I", "-m", "fogline.runtimes")
    assert json.loads(run(command[:2], "-c", LISTING)) == ["numpy", "orjson"]
    where = "import fogline.runtimes.spec as s, numpy, orjson, sys; print(s.__file__, numpy.__file__, sys.base_prefix)"
    spec_file, numpy_file, base = run(command[:2], "-c", where).split()
    assert spec_file.startswith(str(node.state_dir / "runtime"))
    assert numpy_file.startswith(str(home))
    assert base == sys.base_prefix
    assert run((*command[:2], "-c", "import importlib.util as u; print(u.find_spec('grpc'))")) == "None\n"
    assert "publish" in run(command, "--help")
    assert [each for each in node.told if each and "list" not in each] == [
        "fetching 1 of 2 wheels, numpy",
        "fetching 1 of 2 wheels, numpy 50 %",
        "fetching 1 of 2 wheels, numpy 100 %",
        "fetching 2 of 2 wheels, orjson",
        "fetching 2 of 2 wheels, orjson 50 %",
        "fetching 2 of 2 wheels, orjson 100 %",
        "waiting for its turn to be installed",
        "installing 2 packages",
    ]
    assert node.told[0] == "fetching the list of its packages"
    assert not (node.state_dir / "wheels").exists(), "only while it is made"


def test_what_is_whole_needs_nothing_any_more(node: Node) -> None:
    lock = node.house.lock("orjson")
    spec = using(lock)
    assert node.environments.needed(spec) == {lock}
    node.made(lock)
    assert node.environments.needed(spec) == set()
    asked = len(node.asked)
    node.house.blobs.clear()
    shutil.rmtree(node.state_dir / "artifacts")
    assert "publish" in run(Node(node.state_dir, node.house).made(lock), "--help"), "after a restart, without network"
    assert len(node.asked) == asked


def test_copies_with_one_lock_wait_for_one_another(node: Node) -> None:
    lock, told = node.house.lock("orjson"), list[str]()

    async def both() -> None:
        given_up = asyncio.create_task(node.environments.ensure(using(lock), node.told.append))
        while "installing 1 packages" not in node.told:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(node.environments.ensure(using(lock), told.append)) for _ in range(2)]
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(*others)

    asyncio.run(both())
    assert node.names() == [lock], "what the one that gave up had begun is gone"
    assert told.count("waiting for its environment, which is being made") == 2
    assert told.count("installing 1 packages") == 1


def test_a_wheel_is_unpacked_once_for_all_locks(node: Node) -> None:
    first, second = node.house.lock("orjson"), node.house.lock("numpy", "orjson")
    node.made(first)
    node.made(second)
    files = [
        runtime.site_packages(node.state_dir / "environments" / lock) / "orjson" / "__init__.py"
        for lock in (first, second)
    ]
    assert files[0].stat().st_ino == files[1].stat().st_ino


def test_a_draft_is_not_taken_for_whole(node: Node) -> None:
    lock = node.house.lock("orjson")
    (node.state_dir / "environments" / ".draft-x" / "bin").mkdir(parents=True)
    assert not node.environments.whole(lock)
    with pytest.raises(FoglineError, match=f"environment {lock[:8]} is gone from this node: coord restart"):
        asyncio.run(node.environments.command(using(lock)))


def test_one_whose_python_is_gone_is_made_again(node: Node) -> None:
    lock = node.house.lock("orjson")
    python = Path(node.made(lock)[0])
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert "publish" in run(node.made(lock), "--help")
    assert node.names() == [lock]


def test_a_cache_that_a_power_cut_may_have_hurt_is_not_used(node: Node) -> None:
    node.made(node.house.lock("orjson"))
    cache = node.state_dir / "uv-cache"
    assert not (cache / "in-doubt").exists()
    (cache / "in-doubt").write_text("an earlier boot")
    for file in cache.rglob("orjson/__init__.py"):
        file.unlink()
        file.write_text("")
    shutil.rmtree(node.state_dir / "environments")
    command = node.made(node.house.lock("orjson"))
    assert run((*command[:2], "-c", "import orjson; print(orjson.dumps([1]))")) == "b'[1]'\n"


REFUSED = {
    "another target": ({"target": "3.11-riscv64-glibc-2.36"}, "locked for 3.11-riscv64-glibc-2.36, and this node is"),
    "another version": ({"version": "0.0.1"}, "installing failed"),
    "another digest": ({"sha256": "0" * 64}, "artifact 00000000 is not in the store"),
    "another name": ({"file": "numpy-1-py3-none-any.whl"}, "installing failed"),
    "a way out": ({"file": "../../x.whl"}, "is not what a wheel can be called"),
}


@pytest.mark.parametrize(("changes", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_refused_and_leaves_nothing(node: Node, changes: dict[str, str], sentence: str) -> None:
    lock = node.house.lock("orjson", **changes)
    with pytest.raises(FoglineError, match=sentence) as caught:
        node.made(lock)
    assert "\n" not in caught.value.sentence
    assert node.names() == []
    assert not (node.state_dir / "wheels").exists()


def test_settings_of_the_machine_change_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_CONSTRAINT", "UV_CACHE_DIR", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/nowhere")
    command = node.made(node.house.lock("orjson"))
    assert json.loads(run(command[:2], "-c", LISTING)) == ["orjson"]


@pytest.mark.parametrize(("free_bytes", "asked"), [(0, 1), (1 << 40, 0)])
def test_when_the_disk_is_short_what_nobody_needs_goes_first(
    node: Node, monkeypatch: pytest.MonkeyPatch, free_bytes: int, asked: int
) -> None:
    rooms: list[list[str]] = []

    async def make_room() -> None:
        rooms.append(node.names())

    monkeypatch.setattr(subject, "_free_bytes", lambda _: free_bytes)
    node.environments.make_room = make_room
    lock = node.house.lock("orjson")
    node.made(lock)
    assert rooms == [[]] * asked
    assert node.names() == [lock]


def test_without_a_lock_it_is_the_agents_own(node: Node) -> None:
    asyncio.run(node.environments.ensure(a_spec(), node.told.append))
    assert asyncio.run(node.environments.command(a_spec())) == RUNTIME
    assert node.told == []
    assert sorted(path.name for path in node.state_dir.iterdir()) == []


def test_readers_are_released_though_their_environment_was_never_made(node: Node) -> None:
    spec = replace(a_spec(), lock=node.house.lock("orjson"))
    wish = a_wish(spec, Wanted.STOPPED, release=True)
    preparation = Preparation(node.cache, node.environments)
    assert asyncio.run(preparation.release(wish, Workspace.of(node.state_dir, wish.key))) == ""
    with pytest.raises(FoglineError, match="is gone from this node"):
        asyncio.run(preparation.command(spec))


@pytest.mark.parametrize(("connector", "needs"), [("mqtt", False), ("kafka", True)])
def test_the_queues_of_a_container_are_reached_from_outside(node: Node, connector: str, needs: bool) -> None:
    lock = node.house.lock("orjson")
    end = EndpointSpec("q", "a", connector, {}, "c")
    spec = replace(using(lock), container=True, sources=(end,), sinks=())
    command = asyncio.run(node.environments.beside(spec))
    assert (command != RUNTIME, node.names() == [lock]) == (needs, needs)
    assert lock in node.environments.needed(spec), "its image may have to be built again"


def test_a_node_that_makes_none_says_so(tmp_path: Path, house: Wheelhouse) -> None:
    node = Node(tmp_path / "n", house, "own")
    with pytest.raises(FoglineError, match="start the agent with --environments store"):
        node.made(house.lock("orjson"))
    assert node.asked == []


def test_an_agent_of_another_release_points_to_its_own_runtime(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = node.house.lock("orjson")
    command = node.made(lock)
    (former,) = (node.state_dir / "runtime").iterdir()
    newer = node.state_dir / "another" / "fogline" / "runtimes"
    shutil.copytree(former / "fogline" / "runtimes", newer)
    (newer / "marks.py").write_text("")
    monkeypatch.setattr("fogline.runtimes.spec.__file__", str(newer / "spec.py"))
    assert Node(node.state_dir, node.house).made(lock) == command
    (later,) = set((node.state_dir / "runtime").iterdir()) - {former}
    assert former.name.rpartition("-")[0] == later.name.rpartition("-")[0]
    assert run((*command[:2], "-c", "import fogline.runtimes.marks as m; print(m.__file__)")) == (
        f"{later}/fogline/runtimes/marks.py\n"
    )
    assert {path.name for path in later.rglob("*.md")} == set(), "code alone"


def test_the_wheels_may_come_from_an_index(tmp_path: Path, house: Wheelhouse, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = house.lock("orjson")
    site = tmp_path / "simple" / "orjson"
    site.mkdir(parents=True)
    links = [f'<a href="{file}">{file}</a>' for file in house.files.values()]
    (site / "index.html").write_text(f"<html><body>{''.join(links)}</body></html>")
    for digest, file in house.files.items():
        (site / file).write_bytes(house.blobs[digest])
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"file://{tmp_path}/simple")
    node = Node(tmp_path / "n", house, "index")
    command = node.made(lock)
    assert json.loads(run(command[:2], "-c", LISTING)) == ["orjson"]
    assert node.asked == [lock], "no wheel"


def test_an_index_that_is_away_is_waited_for(
    tmp_path: Path, house: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setattr(subject, "AGAIN_AFTER_S", 0.01)
    node = Node(tmp_path / "n", house, "index")
    lock = house.lock("orjson")

    async def waits() -> None:
        making = asyncio.create_task(node.environments.ensure(using(lock), node.told.append))
        while sum("trying again" in each for each in node.told) < 2:
            assert not making.done()
            await asyncio.sleep(0.01)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)

    asyncio.run(waits())
    assert node.names() == []
