"""Submitting and planning what needs packages: uv and pip are real, the index is a folder, the agents are played."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from fogline.coordinator.artifacts.lock import Lock, read_lock
from support.cluster import write_code, write_json
from support.conversation import obedient, run
from support.coord_command import coord
from support.documents import a_queue, a_stage
from support.fake_agent import Served, served
from support.package_index import make_wheel, only_index

pytestmark = pytest.mark.e2e

NODE = {"environments": "store", "python": "3.11.7", "architecture": "x86_64", "libc": "glibc-2.36"}
ARM = NODE | {"architecture": "aarch64"}
TARGET, ARM_TARGET = "3.11-x86_64-glibc-2.36", "3.11-aarch64-glibc-2.36"
BOTH = MappingProxyType({"a": "alpha", "b": "beta"})


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only_index(monkeypatch, tmp_path) as folder:
        make_wheel(folder, "alpha", "1.0")
        make_wheel(folder, "beta", "1.0", ["alpha"])
        for machine in ("x86_64", "aarch64"):
            make_wheel(folder, "gamma", "1.0", tag=f"cp311-cp311-manylinux_2_28_{machine}")
        make_wheel(folder, "delta", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
        yield folder


def a_document(folder: Path, asked: Mapping[str, str], **changes: Any) -> str:
    """Stages a and b joined directly, each with a requirements.txt; returns the path of the document."""
    for name, lines in asked.items():
        write_code(folder / name, "def handler(data): return data\n")
        (folder / name / "requirements.txt").write_text(lines + "\n")
    replicas = {"replicas": changes.pop("replicas", 1)}
    stages = {"a": a_stage("q1", "b", **replicas), "b": a_stage("a", "q2", **replicas)}
    for name, stage in stages.items():
        stage["props"]["path"] = f"./{name}"
    queues = {name: a_queue(name) for name in ("q1", "q2")}
    value = {"version": "1.0", "id": "p", "pipeline": stages, "queues": queues} | changes
    return str(write_json(folder / f"{value['id']}.json", value))


def locks(service: Served, folder: Path, id_: str = "p") -> dict[tuple[str, str], Lock]:
    """(Segment, node) -> the lock that its copy is to run with; all of it is in the store."""
    artifacts, found = folder / "artifacts", {}
    for copy in service.deployments.get(id_).target:
        lock = read_lock((artifacts / service.deployments.parsed(copy).lock).read_bytes())
        assert all((artifacts / wheel.sha256).stat().st_size == wheel.size for wheel in lock.wheels)
        found[copy.segment, copy.node] = lock
    return found


def versions(lock: Lock) -> list[str]:
    return [f"{wheel.name}=={wheel.version}" for wheel in lock.wheels]


def test_packages_are_resolved_once_and_go_with_the_revision(tmp_path: Path, index: Path) -> None:
    document = a_document(tmp_path, BOTH)

    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE):
            done = await coord(service, "submit", document)
            assert done.code == 0, done.err
            said = done.err.splitlines()
            assert f"resolving packages of a for {TARGET} ..." in said
            assert any(line.startswith("uploading 3 of 3 wheels (") for line in said)
            lock = locks(service, tmp_path)["a", "edge"]
            assert versions(lock) == ["alpha==1.0", "beta==1.0", "orjson==3.10.0"]
            shutil.rmtree(index)  # whoever asked it now would fail
            again = await coord(service, "submit", document, "--output", "json")
            assert (again.code, again.err, again.json["unchanged"]) == (0, "", True)
            other = a_document(tmp_path, {"a": "beta", "b": "alpha"}, id="other")
            done = await coord(service, "submit", other)
            assert (done.code, "resolving" in done.err) == (0, False)
            assert locks(service, tmp_path, "other")["a", "edge"] == lock

    run(test())


def test_newer_versions_come_when_they_are_asked_for(tmp_path: Path, index: Path) -> None:
    document = a_document(tmp_path, BOTH)

    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE):
            assert (await coord(service, "submit", document)).code == 0
            make_wheel(index, "alpha", "1.1")
            done = await coord(service, "submit", document)
            assert "unchanged" in done.out
            assert "alpha==1.0" in versions(locks(service, tmp_path)["a", "edge"])
            done = await coord(service, "submit", document, "--upgrade")
            assert done.code == 0, done.err
            assert "uploading 1 of 3 wheels" in done.err
            assert "alpha==1.1" in versions(locks(service, tmp_path)["a", "edge"])
            assert service.deployments.get("p").revision == 2
            assert "unchanged" in (await coord(service, "submit", document, "--upgrade")).out
            differs = await coord(service, "diff", document)
            assert (differs.code, "nothing differs" in differs.err) == (0, True)

    run(test())


def test_stages_that_cannot_share_an_environment_are_parted(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "alpha", "2.0")
    document = a_document(tmp_path, {"a": "alpha<2", "b": "alpha>=2"})

    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE):
            planned = await coord(service, "plan", document, "--output", "json")
            assert (planned.code, planned.err) == (0, "")
            assert [each["stages"] for each in planned.json["segments"]] == [["a"], ["b"]]
            [link] = [each for each in planned.json["links"] if each["name"] == "a..b"]
            assert "stage a asks for alpha<2 and stage b asks for alpha>=2" in link["guarantee"]
            done = await coord(service, "submit", document)
            assert done.code == 0, done.err
            assert "a and b cannot share an environment: planning again" in done.err
            found = locks(service, tmp_path)
            assert "alpha==1.0" in versions(found["a", "edge"])
            assert "alpha==2.0" in versions(found["b", "edge"])
            shutil.rmtree(index)  # what could not be had together is remembered too
            again = await coord(service, "submit", document)
            assert ("unchanged" in again.out, "resolving" in again.err) == (True, False), again.err
            assert again.out.count("SEGMENT") == 1
            assert (await coord(service, "diff", document)).code == 0

    run(test())


def test_each_kind_of_node_gets_its_own_wheels(tmp_path: Path, index: Path) -> None:
    document = a_document(tmp_path, {"a": "gamma", "b": "alpha"}, replicas="each")

    async def test() -> None:
        async with (
            served(tmp_path) as service,
            obedient(service.address, "edge", NODE),
            obedient(service.address, "arm", ARM),
            obedient(service.address, "own"),
        ):
            planned = await coord(service, "plan", document)
            assert planned.code == 0, planned.err
            assert f"resolving packages of a for {ARM_TARGET} ..." in planned.err
            stored = {path.stat().st_size for path in (tmp_path / "artifacts").iterdir()}
            done = await coord(service, "submit", document)
            assert (done.code, "resolving" in done.err) == (0, False), done.err
            assert {path.stat().st_size for path in (tmp_path / "artifacts").iterdir()} >= stored
            target = service.deployments.get("p").target
            digests = {copy.node: service.deployments.parsed(copy).lock for copy in target}
            assert digests["own"] == ""
            for node, machine in (("edge", "x86_64"), ("arm", "aarch64")):
                lock = read_lock((tmp_path / "artifacts" / digests[node]).read_bytes())
                assert lock.wheels[1].file == f"gamma-1.0-cp311-cp311-manylinux_2_28_{machine}.whl"

    run(test())


def test_a_wheel_that_is_missing_for_a_kind_of_node_is_named(tmp_path: Path, index: Path) -> None:
    document = a_document(tmp_path, {"a": "delta==1.0", "b": "alpha"})

    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "arm", ARM):
            planned = await coord(service, "plan", document, "--output", "json")
            assert (planned.code, planned.err) == (4, "")
            [problem] = planned.json["problems"]
            assert (problem["severity"], problem["pointer"], problem["file"]) == ("error", "/pipeline/a", document)
            assert "no wheel of delta 1.0 for aarch64, glibc 2.36, Python 3.11 (stage a asks for" in problem["message"]
            done = await coord(service, "submit", document)
            assert (done.code, done.err.count("no wheel of delta")) == (4, 1)
            assert service.deployments.ids() == []

    run(test())


def test_conflicting_lines_of_one_stage_are_its_problem(tmp_path: Path, index: Path) -> None:
    document = a_document(tmp_path, {"a": "alpha<1\nalpha>=1", "b": "beta"})

    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge", NODE):
            done = await coord(service, "submit", document)
            assert done.code == 4
            assert "alpha<1 (stage a) and alpha>=1 (stage a) cannot be had together" in done.err
            assert "Traceback" not in done.err

    run(test())
