"""`coord package`: folders that a plain `docker build` takes, the same on every machine. uv and pip are real."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cluster import write_code, write_json
from support.containers import needs_engine, remove_images
from support.coord_command import alone
from support.documents import a_queue, a_stage
from support.package_index import make_wheel, only_index

pytestmark = pytest.mark.e2e

TARGET, ARM = "3.11-x86_64-glibc-2.36", "3.11-aarch64-glibc-2.36"
HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only_index(monkeypatch, tmp_path) as folder:
        for machine in ("x86_64", "aarch64"):
            make_wheel(folder, "gamma", "1.0", tag=f"cp311-cp311-manylinux_2_28_{machine}")
        yield folder


def a_document(folder: Path, **changes: Any) -> str:
    """Stage `first` on node one asks for gamma; `second` and `third`, which are linked directly, are on node two."""
    for name in ("first", "second", "third"):
        write_code(folder / name, "def handler(data): return data\n")
    (folder / "first" / "requirements.txt").write_text("gamma\n")
    stages = {
        "first": a_stage("q1", "q2", infra="one"),
        "second": a_stage("q2", "third", infra="two", constraints={"node": {"layer": "cloud"}}),
        "third": a_stage("second", "q3", infra="two", resources={"cpus": 64}),
    }
    for name, stage in stages.items():
        stage["props"]["path"] = f"./{name}"
    queues = {name: a_queue(name) for name in ("q1", "q2", "q3")}
    value = {"version": "1.0", "id": "plant", "pipeline": stages, "queues": queues, "infra": {"one": {}, "two": {}}}
    return str(write_json(folder / "plant.json", value | changes))


def package(document: str, out: Path, *more: str, target: str = TARGET) -> list[dict[str, Any]]:
    done = alone("package", document, "--out", str(out), "--target", target, "--output", "json", *more)
    assert done.code == 0, done.err
    rows: list[dict[str, Any]] = done.json
    return rows


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_segment_has_a_folder_with_what_it_uses(tmp_path: Path, index: Path) -> None:
    rows = package(a_document(tmp_path), tmp_path / "out")
    assert [row["segment"] for row in rows] == ["first", "second"]
    for row in rows:
        files = tree(tmp_path / "out" / row["segment"])
        assert (row["files"], row["context"]) == (len(files), str(tmp_path / "out" / row["segment"]))
        assert "Dockerfile" in files
        assert not [name for name in files if "kafka" in name or "onnx_model" in name]
    one, two = (tree(tmp_path / "out" / name) for name in ("first", "second"))
    assert "environment/wheels/gamma-1.0-cp311-cp311-manylinux_2_28_x86_64.whl" in one
    assert not [name for name in two if "gamma" in name]
    assert sum(name.startswith("artifacts/") and name.endswith("/main.py") for name in two) == 1, "equal code is once"
    lock = json.loads((tmp_path / "out" / "first" / "environment" / "lock.json").read_bytes())
    assert [wheel["name"] for wheel in lock["wheels"]] == ["gamma", "orjson"]


def test_equal_documents_give_equal_digests(tmp_path: Path, index: Path) -> None:
    first = package(a_document(tmp_path), tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    document = a_document(elsewhere, queues={name: a_queue(name, port=7) for name in ("q1", "q2", "q3")})
    os.utime(elsewhere / "first" / "main.py", (1, 1))
    again = package(document, tmp_path / "again")
    assert [row["digest"] for row in again] == [row["digest"] for row in first], "an address is no part of an image"
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
    (elsewhere / "first" / "main.py").write_text("def handler(data): return None\n")
    changed = package(document, tmp_path / "changed")
    assert [a["digest"] == b["digest"] for a, b in zip(first, changed, strict=True)] == [False, True]


def test_for_another_kind_of_node(tmp_path: Path, index: Path) -> None:
    package(a_document(tmp_path), tmp_path / "out", "--base-image", "plant/python:3.11@sha256:" + "a" * 64, target=ARM)
    context = tmp_path / "out" / "first"
    assert (context / "environment" / "wheels" / "gamma-1.0-cp311-cp311-manylinux_2_28_aarch64.whl").exists()
    text = (context / "Dockerfile").read_text()
    assert text.startswith(f"FROM plant/python:3.11@sha256:{'a' * 64} AS wheels\n")
    assert subprocess.run([HADOLINT, context / "Dockerfile"], check=False).returncode == 0
    done = alone("package", a_document(tmp_path), "--out", str(tmp_path / "o"), "--target", ARM, "--build")
    assert done.code == 4
    assert "an image for aarch64 cannot be built on this machine, which is x86_64" in done.err


def test_what_is_refused_leaves_nothing(tmp_path: Path, index: Path) -> None:
    document, out = a_document(tmp_path), tmp_path / "out"
    (out / "second").mkdir(parents=True)
    done = alone("package", document, "--out", str(out), "--target", TARGET)
    assert done.code == 6
    assert f"{out / 'second'} is there already: remove it, or name another folder" in done.err
    assert [path.name for path in out.iterdir()] == ["second"]
    done = alone("package", document, "--out", str(tmp_path / "other"), "--target", "2.7-vax-libc-1")
    assert done.code == 4
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_leaves_no_half_context(tmp_path: Path, index: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", out], check=True)
    try:
        done = alone("package", a_document(tmp_path), "--out", str(out), "--target", TARGET)
        assert done.code == 5
        assert f"{out / 'first'} cannot be written: No space left on device" in done.err
        assert list(out.iterdir()) == []
    finally:
        subprocess.run(["umount", out], check=True)


def test_without_an_engine(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    done = alone("package", a_document(tmp_path), "--out", str(tmp_path / "out"), "--build")
    assert done.code == 8
    assert done.err.splitlines()[-1].endswith(": it does not answer")


@needs_engine
@pytest.mark.containers
def test_without_a_base_image(tmp_path: Path, index: Path) -> None:
    absent = ["--base-image", "fogline/absent:3.11", "--build"]
    done = alone("package", a_document(tmp_path), "--out", str(tmp_path / "out"), *absent)
    assert done.code == 5
    assert "the image fogline/absent:3.11, which others are built on, is not in this machine's" in done.err


@needs_engine
@pytest.mark.containers
def test_a_plain_docker_build_takes_it_and_build_does_the_same(tmp_path: Path, index: Path) -> None:
    document = a_document(tmp_path)
    rows = package(document, tmp_path / "out", "--build")
    names = [row["image"] for row in rows]
    try:
        plain = ["docker", "build", "--quiet", "--network", "none", str(tmp_path / "out" / "first")]
        image = subprocess.check_output(plain, text=True, stderr=subprocess.DEVNULL).strip()
        asks = ["-c", "import fogline.runtimes.spec, gamma, orjson; print(gamma.__version__, orjson.__version__)"]
        for each in (image, names[0]):
            run = [
                "docker",
                "run",
                "--rm",
                "--read-only",
                "--network",
                "none",
                "--entrypoint",
                "/opt/fogline/bin/python",
                each,
                "-I",
                *asks,
            ]
            assert subprocess.check_output(run, text=True) == "1.0 3.10.0\n"
        assert [row["image"].rpartition(":")[0] for row in rows] == ["fogline/plant-first", "fogline/plant-second"]
        assert all(row["build_s"] > 0 and row["image_bytes"] > 1e8 for row in rows)
    finally:
        remove_images(image, *names)
