"""A real agent makes a real environment, and stages run from it: also after a kill, and without any network."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from fogline.agent.core.desired import Assignment
from fogline.agent.host import runtime
from fogline.agent.host.environments import node_target
from fogline.agent.host.facts import gather
from fogline.agent.host.workspace import Workspace, read_json
from fogline.coordinator.core.fleet import NodeState
from fogline.coordinator.service.translate import node
from fogline.runtimes.spec import SegmentSpec, StageSpec
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire.terms import Wanted
from support.agent_builders import a_wish, lives, until
from support.agent_coordinator import FakeCoordinator
from support.hostile_archives import a_file, packed
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.real_wheels import Wheelhouse
from support.segments import mqtt_end, segment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

COMMAND = [sys.executable, "-m", "fogline.agent.cli", "run", "--name", "n1", "--layer", "edge"]
PACKAGES = ("numpy", "onnxruntime", "orjson")


def a_model(folder: Path) -> bytes:
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    ends.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]))
    added = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    graph = helper.make_graph([added], "g", ends[:1], ends[1:], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model")
    return (folder / "model").read_bytes()


def a_segment(name: str, house: Wheelhouse, model: str, port: int) -> SegmentSpec:
    stage = StageSpec(name, "onnx", ("in",), ("out",), artifact=model, options={"input": "x", "output": "y"})
    made = segment(stage, sources=(mqtt_end("in", name, port),), sinks=(mqtt_end("out", name, port),))
    return replace(made, lock=house.lock(*PACKAGES))


class Scene:
    """A coordinator that has what is needed, and the copies of a node as it sees them."""

    def __init__(self, state_dir: Path, house: Wheelhouse) -> None:
        self.state_dir = state_dir
        self.log = state_dir.with_name("agent.log")
        self.coordinator = FakeCoordinator()
        self.coordinator.artifacts = house.blobs

    @asynccontextmanager
    async def agent(self, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        arguments = ["--coordinator", self.coordinator.address or "127.0.0.1:9", "--state-dir", str(self.state_dir)]
        with self.log.open("a") as log:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, *arguments, "--environments", "store", *more, stderr=log
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    def seen(self, wish: Assignment) -> common.CopyObserved:
        copies = [copy for each in self.coordinator.observations[-1:] for copy in each.copies]
        return next((copy for copy in copies if copy.assignment == wish.id), common.CopyObserved())

    async def reaches(self, wish: Assignment, state: common.CopyState.ValueType) -> float:
        began = time.monotonic()
        await until(lambda: self.seen(wish).state == state, f"{wish.id} is {state}", 60, seen=lambda: self.seen(wish))
        return time.monotonic() - began

    def workspace(self, wish: Assignment) -> Workspace:
        return Workspace.of(self.state_dir, wish.key)

    @property
    def environments(self) -> list[str]:
        folder = self.state_dir / "environments"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def end(*pids: int) -> None:
    for pid in pids:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


def disk_bytes(folder: Path) -> int:
    """Of everything below, a file with many names once."""
    sizes = {each.lstat().st_ino: each.lstat().st_blocks * 512 for each in folder.rglob("*")}
    return sum(sizes.values())


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def holds_its_lock_alone(home: Path) -> None:
    listing = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    found = subprocess.run([home / "bin" / "python", "-I", "-c", listing], capture_output=True, text=True, check=True)
    assert found.stdout.split() == list(PACKAGES)
    script = subprocess.run([home / "bin" / "f2py", "-v"], capture_output=True, text=True, check=True)
    assert script.stdout.strip() in "".join(path.name for path in home.rglob("numpy-*.dist-info"))


def compiled(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in home.rglob("*.pyc")}


def test_stages_run_from_their_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = Wheelhouse()
    model = house.add(a_model(tmp_path))
    memory_mb: list[float] = []

    async def life(port: int) -> None:
        scene = Scene(tmp_path / "n", house)
        first, second = (a_wish(a_segment(name, house, model, port)) for name in ("judge", "other"))
        home = scene.state_dir / "environments" / house.lock(*PACKAGES)
        async with scene.coordinator.serving(), scene.agent():
            await until(lambda: scene.coordinator.hellos, "it is connected", 20)
            scene.coordinator.desire(1, first)
            first_s = await scene.reaches(first, common.COPY_STATE_READY)
            before_bytes = disk_bytes(scene.state_dir)
            scene.coordinator.desire(2, first, second)
            second_s = await scene.reaches(second, common.COPY_STATE_READY)
            more_mb = (disk_bytes(scene.state_dir) - before_bytes) / 1e6
            pids = [scene.seen(wish).pid for wish in (first, second)]
            with Peer(port) as peer:
                peer.subscribe("t/out").publish("t/in", b'{"x": [3, 4]}')
                await until(lambda: len(peer.payloads) == 2, "both answer", 20)
            assert all(b'"y":7.0' in payload for payload in peer.payloads)
        holds_its_lock_alone(home)
        for pid in pids:
            assert Path(f"/proc/{pid}/cmdline").read_text().startswith(f"{home}/bin/python\0-I\0-m\0fogline.runtimes")
            mapped = Path(f"/proc/{pid}/maps").read_text()
            assert f"{home}/lib" in mapped
            assert ".venv" not in mapped, "nothing of the agent's own packages"
        (laid_out,) = (scene.state_dir / "runtime").iterdir()
        assert (runtime.site_packages(home) / "_fogline.pth").read_text() == f"{laid_out}\n"
        assert [path.name for path in (laid_out / "fogline").iterdir()] == ["runtimes"]
        assert scene.workspace(first).noted_runtime() == str(laid_out)
        await starts_again_without_network(scene, first, pids, home)
        with capsys.disabled():
            print(f"\n  ready in {first_s:.2f} s; the second in {second_s:.2f} s, with {more_mb:.2f} MB more")
            print(f"  MQTT and ONNX: {', '.join(f'{mb:.0f}' for mb in memory_mb)} MB resident")

    async def starts_again_without_network(scene: Scene, wish: Assignment, pids: list[int], home: Path) -> None:
        """As after a power cut: no process, no coordinator."""
        memory_mb.extend(resident_mb(pid) for pid in pids)
        before = compiled(home)
        assert any("onnxruntime" in path for path in before)
        end(*pids)
        await until(lambda: not any(map(lives, pids)), "both are gone")
        scene.coordinator.address = ""
        async with scene.agent():
            noted = scene.workspace(wish).path / "shim.json"
            await until(lambda: lives(read_json(noted).get("pid", 0)), "it runs again", 20)
            log = scene.workspace(wish).log
            await until(lambda: log.read_text().count(" ready\n") > 1, "and is ready", 20, seen=log.read_text)
        assert compiled(home) == before, "nothing is compiled again"
        end(*(read_json(path)["pid"] for path in scene.state_dir.glob("copies/*/shim.json")))

    with Mosquitto(tmp_path / "broker") as broker:
        asyncio.run(life(broker.port))


async def killed(scene: Scene, wish: Assignment, reached: Callable[[], object]) -> None:
    """An agent that prepares `wish`, and is killed when it has reached something."""
    async with scene.coordinator.serving(), scene.agent() as process:
        scene.coordinator.desire(1, wish)
        await until(reached, "it is in the middle of it", 60)
        process.kill()
        await process.wait()
    scene.coordinator.observations.clear()


@pytest.mark.parametrize("moment", ["fetching", "installing"])
def test_an_agent_that_was_killed_goes_on(tmp_path: Path, moment: str) -> None:
    house = Wheelhouse()
    source = b"import numpy\n\ndef handler(data):\n    return {'y': float(numpy.sum(data['x']))}\n"
    stage = StageSpec("count", "code", (), (), artifact=house.add(packed(a_file("main.py", source))))
    lock = house.lock(*PACKAGES)
    wish = a_wish(replace(segment(stage), lock=lock), Wanted.PREPARED)
    numpy = next(digest for digest, file in house.files.items() if file.startswith("numpy"))

    async def life() -> None:
        for attempt in range(5):
            scene = Scene(tmp_path / f"n{attempt}", house)
            partial = scene.state_dir / "artifacts" / f"{numpy}.partial"
            if moment == "fetching":
                scene.coordinator.stalls_at = 4 * 1024**2
                await killed(scene, wish, lambda: partial.exists() and partial.stat().st_size > 1024**2)  # noqa: B023
            else:
                await killed(scene, wish, lambda: scene.environments)  # noqa: B023
            if lock not in scene.environments:  # else it was quicker than we
                break
        assert lock not in scene.environments
        assert partial.exists() == (moment == "fetching")
        scene.coordinator.stalls_at = 0
        async with scene.coordinator.serving(), scene.agent():
            await scene.reaches(wish, common.COPY_STATE_PREPARED)
        holds_its_lock_alone(scene.state_dir / "environments" / lock)
        assert scene.environments == [lock]
        assert not partial.exists()

    asyncio.run(life())


def test_one_that_is_gone_comes_back_when_asked_for(tmp_path: Path) -> None:
    """Meanwhile its dead letters can be read, and nothing else of it runs."""
    house = Wheelhouse()
    model = house.add(a_model(tmp_path))

    async def life(port: int) -> None:
        scene = Scene(tmp_path / "n", house)
        coordinator = scene.coordinator
        wish = a_wish(a_segment("judge", house, model, port))
        async with coordinator.serving(), scene.agent():
            coordinator.desire(1, wish)
            await scene.reaches(wish, common.COPY_STATE_READY)
            lines = b'{"x": [1, 2]}\n"this is no record for it"\n'
            coordinator.ask(id="1", publish=agent.Publish(assignment=wish.id, queue="out", lines=lines, end=True))
            await until(coordinator.answered("1"), "it publishes from its environment", 20)
            assert (coordinator.answers("1")[-1].confirmed, coordinator.answers("1")[-1].error) == (2, "")
            with Peer(port) as peer:
                peer.publish("t/in", b'{"x": "no numbers"}')
            await until(lambda: scene.seen(wish).stages[0].counters["dead_lettered"] == 1, "it is put aside", 20)
            shutil.rmtree(scene.state_dir / "environments")
            end(scene.seen(wish).pid)
            await scene.reaches(wish, common.COPY_STATE_FAILED)
            assert scene.seen(wish).reason.endswith("is gone from this node: coord restart makes it again")
            coordinator.ask(id="2", dead_letters=agent.DeadLetters(pipeline="p", action="list"))
            await until(coordinator.answered("2"), "its letters are read", 20)
            assert b'"segment":"judge"' in b"".join(reply.data for reply in coordinator.answers("2"))
            coordinator.artifacts = {}
            coordinator.desire(2, replace(wish, incarnation=1))
            await scene.reaches(wish, common.COPY_STATE_READY)
            coordinator.desire(3, replace(wish, wanted=Wanted.STOPPED))
            await scene.reaches(wish, common.COPY_STATE_GONE)

    with Mosquitto(tmp_path / "broker") as broker:
        asyncio.run(life(broker.port))


def test_what_an_environment_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gather(Path("/tmp"), "127.0.0.1:9", "").lacks == ()
    monkeypatch.setitem(sys.modules, "httptools", None)  # to importlib a library that is not there
    assert gather(Path("/tmp"), "127.0.0.1:9", "").lacks == ("serving",)


def test_a_certificate_counts_also_where_it_cannot_be_read(tmp_path: Path) -> None:
    def told() -> bool:
        return gather(tmp_path, "127.0.0.1:9", "").tls

    assert not told()
    (tmp_path / "tls").mkdir()
    assert not told()
    certificate = tmp_path / "tls" / "certificate.pem"
    certificate.symlink_to(certificate)
    assert told()


def test_both_ends_call_this_node_the_same() -> None:
    """The coordinator chooses a lock by what the agent says of itself; the agent checks what it gets."""
    facts = gather(Path("/tmp"), "127.0.0.1:9", "")
    known = common.NodeFacts(
        name="n1",
        layer="edge",
        architecture=facts.architecture,
        python=facts.python,
        libc=facts.libc,
        environments="store",
    )
    assert node(known, NodeState.CONNECTED).target == node_target()
