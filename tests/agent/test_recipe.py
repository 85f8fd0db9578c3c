"""The recipe of an image and its build context: the same for the same segment, and nothing in it that is not used."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path, PurePath

import pytest

from fogline.agent.core.locks import Lock, Wheel
from fogline.agent.host import runtime
from fogline.agent.host.context import Context, key, of_environment, of_segment, pack
from fogline.runtimes.container import recipe
from fogline.runtimes.spec import EndpointSpec, SegmentSpec, StageSpec

HADOLINT = Path(sys.executable).with_name("hadolint")
WHEEL = Wheel("numpy-2.4.6-cp311-cp311-linux_x86_64.whl", "numpy", "a" * 64, 5, "2.4.6")
LOCK = Lock("3.11-x86_64-glibc-2.36", (WHEEL,))


def a_segment(framework: str = "onnx", connector: str = "mqtt", **options: object) -> SegmentSpec:
    stage = StageSpec("judge", framework, ("in",), ("out",), artifact="b" * 64)
    ends = EndpointSpec("in", "judge", connector, options, "c"), EndpointSpec("out", "judge", connector, {}, "w")
    return SegmentSpec(
        "plant", "judge", "0", "a", "c1", (stage,), ends[:1], ends[1:], lock="c" * 64, container=True, memory_bytes=5
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / WHEEL.sha256).write_bytes(b"wheel")
    (folder / ("b" * 64)).write_bytes(b"model")
    return folder


def contexts(spec: SegmentSpec, store: Path, tmp_path: Path) -> list[Context]:
    environment = of_environment(spec.lock, LOCK, "fogline/python:3.11", store)
    return [environment, of_segment(spec, "fogline/environment:1", runtime.lay_out(tmp_path), store)]


def packed(spec: SegmentSpec, store: Path, tmp_path: Path) -> list[bytes]:
    found = []
    for made in contexts(spec, store, tmp_path):
        out = io.BytesIO()
        pack(made, out)
        found.append(out.getvalue())
    return found


def test_equal_segments_have_equal_contexts(store: Path, tmp_path: Path) -> None:
    first = packed(a_segment(), store, tmp_path)
    for file in store.iterdir():
        os.utime(file, (1, 1))
    assert packed(a_segment(), store, tmp_path) == first
    (store / ("b" * 64)).write_bytes(b"another")
    environment, segment = packed(a_segment(), store, tmp_path)
    assert environment == first[0]
    assert segment != first[1]


def test_the_key_knows_contents_and_base(store: Path, tmp_path: Path) -> None:
    _, made = contexts(a_segment(), store, tmp_path)
    assert key(made, "sha256:1") == key(dict(sorted(made.items(), reverse=True)), "sha256:1")
    assert key(made, "sha256:1") != key(made, "sha256:2")
    assert key(made, "sha256:1") != key({**made, "Dockerfile": b"FROM scratch"}, "sha256:1")


def test_the_context_holds_what_the_segment_uses(store: Path, tmp_path: Path) -> None:
    names = []
    for data in packed(a_segment(), store, tmp_path):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert tar.getnames() == sorted(tar.getnames())
            assert {(each.mtime, each.uid, each.uname) for each in tar.getmembers()} == {(0, 0, "")}
            names += tar.getnames()
    assert contexts(a_segment(), store, tmp_path)[0]["requirements.txt"] == f"{WHEEL.requirement}\n".encode()
    inside = "runtime/fogline/runtimes"
    assert {f"wheels/{WHEEL.file}", f"artifacts/{'b' * 64}", "uv", "shim.py"} <= set(names)
    assert {f"{inside}/connectors/mqtt_link.py", f"{inside}/frameworks/onnx_model.py"} <= set(names)
    assert not [name for name in names if "kafka" in name or "websocket" in name or "sklearn" in name]


@pytest.mark.parametrize(
    ("file", "framework", "connector", "there"),
    [
        ("connectors/kafka_sink.py", "code", "kafka", True),
        ("connectors/kafka_sink.py", "code", "mqtt", False),
        ("connectors/kafka.py", "code", "websocket", False),
        ("connectors/backoff.py", "code", "kafka", True),
        ("connectors/file_reader.py", "code", "kafka", True),
        ("mqtt/packets.py", "code", "kafka", False),
        ("frameworks/tensor_model.py", "onnx", "mqtt", True),
        ("frameworks/tensorflow_model.py", "keras", "mqtt", True),
        ("frameworks/sklearn_model.py", "scikit-learn", "mqtt", True),
        ("frameworks/onnx_model.py", "code", "mqtt", False),
        ("host.py", "code", "mqtt", True),
    ],
)
def test_what_belongs(file: str, framework: str, connector: str, there: bool) -> None:
    assert recipe.belongs(PurePath(file), a_segment(framework, connector)) == there


def test_secrets_are_found_wherever_they_are_named() -> None:
    spec = a_segment(password={"secret": "broker"}, tls={"ca": {"secret": "plant-ca"}, "server-name": "x"})
    assert recipe.secrets(spec) == ("broker", "plant-ca")


def test_a_linter_finds_nothing() -> None:
    environment = recipe.environment("c" * 64, "fogline/python:3.11", "3.11", wheels=True)
    for text in (environment, recipe.segment(a_segment(), "fogline/environment:1")):
        done = subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), text
    bad = subprocess.run([HADOLINT, "-"], input="FROM x\n" + text, capture_output=True, text=True, check=False)
    assert bad.returncode == 1, "it can find something"
