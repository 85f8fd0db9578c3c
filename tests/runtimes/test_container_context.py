"""What an image is made of: the same for the same segment, nothing in it that is not used, and an environment that
its own installer makes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from fogline.runtimes.container import install, recipe
from fogline.runtimes.container.context import (
    Context,
    ContextError,
    bundle_of,
    key,
    of_environment,
    of_segment,
    pack,
    read_context,
    written_down,
)
from fogline.runtimes.spec import EndpointSpec, SegmentSpec, ServingSpec, StageSpec

HADOLINT = Path(sys.executable).with_name("hadolint")
BASE = "fogline/python:3.11"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def a_segment(framework: str = "onnx", connector: str = "mqtt", **options: object) -> SegmentSpec:
    stage = StageSpec("judge", framework, ("in",), ("out",), artifact="b" * 64)
    ends = EndpointSpec("in", "judge", connector, options, "c"), EndpointSpec("out", "judge", connector, {}, "w")
    return SegmentSpec(
        "plant", "judge", "0", "a", "c1", (stage,), ends[:1], ends[1:], lock="c" * 64, container=True, memory_bytes=5
    )


def names(bundle: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        assert {(each.mtime, each.uid, each.uname, each.mode) for each in tar.getmembers()} == {(0, 0, "", 0o644)}
        return tar.getnames()


def test_what_is_written_down_is_read_back() -> None:
    spec = a_segment()
    context = written_down(spec, BASE, "0.1.0", bundle_of(spec))
    assert read_context(context.to_bytes()) == context
    assert context.digest == hashlib.sha256(context.to_bytes()).hexdigest()
    assert context.artifacts == spec.artifacts


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "is none"),
        (b"[]", "is none"),
        (b'{"fogline-context": 2}', "newer than 1"),
        (b'{"fogline-context": 1}', "is none"),
    ],
)
def test_what_is_no_context(data: bytes, words: str) -> None:
    with pytest.raises(ContextError, match=words):
        read_context(data)


def test_a_context_names_nothing_but_by_digest() -> None:
    good = Context(BASE, "", "", "a" * 64, "b" * 64, ())
    for bad in ("../../etc/passwd", "A" * 64, ""):
        with pytest.raises(ContextError, match="by no digest"):
            read_context(Context(**{**vars(good), "artifacts": (bad,)}).to_bytes())


def test_equal_segments_have_equal_contexts() -> None:
    """Whichever copy it is, and whatever its environment and resources: they are no part of the image."""
    one, other = a_segment(), a_segment(password={"secret": "x"})
    assert bundle_of(one) == bundle_of(other)
    first, second = (written_down(each, BASE, "0.1.0", bundle_of(each)).digest for each in (one, other))
    assert first == second
    assert written_down(one, BASE, "0.2.0", bundle_of(one)).digest != first
    assert written_down(one, f"{BASE}-slim", "0.1.0", bundle_of(one)).digest != first
    assert bundle_of(a_segment(connector="kafka")) != bundle_of(one)


def test_the_bundle_holds_what_the_segment_uses() -> None:
    found = names(bundle_of(a_segment()))
    assert found == sorted(found)
    inside = "fogline/runtime/fogline/runtimes"
    beside = {f"fogline/{name}.py" for name in ("alive", "inside", "shim")}
    assert {"environment/install.py", *beside, f"{inside}/host.py"} <= set(found)
    assert {f"{inside}/connectors/mqtt_link.py", f"{inside}/frameworks/onnx_model.py"} <= set(found)
    unused = ("kafka", "websocket", "sklearn", "runtimes/container")
    assert not [name for name in found if any(each in name for each in unused)]


def test_the_key_knows_contents_and_what_is_below(tmp_path: Path) -> None:
    for name, content in (("environment/install.py", "1"), ("fogline/shim.py", "2"), ("model/a/__pycache__/x", "3")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "model" / "a" / "weights").write_text("4")
    environment = of_environment(tmp_path, tmp_path / "lock", {"w.whl": tmp_path / "wheel"})
    assert sorted(environment) == ["environment/install.py", "environment/lock.json", "environment/wheels/w.whl"]
    made = of_segment(tmp_path, {"d": tmp_path / "model"})
    assert sorted(made) == ["artifacts/d/a/weights", "fogline/shim.py"]
    assert key(made, "sha256:1") == key(dict(sorted(made.items(), reverse=True)), "sha256:1")
    assert key(made, "sha256:1") != key(made, "sha256:2")
    assert key(made, "sha256:1") != key({**made, "Dockerfile": b"FROM scratch"}, "sha256:1")


def test_a_tar_depends_on_names_contents_and_programs_alone(tmp_path: Path) -> None:
    def packed() -> bytes:
        out = io.BytesIO()
        pack({"b": b"1", "a": tmp_path / "file"}, out)
        return out.getvalue()

    (tmp_path / "file").write_text("x")
    first = packed()
    os.utime(tmp_path / "file", (1, 1))
    (tmp_path / "file").chmod(0o600)
    assert packed() == first
    (tmp_path / "file").chmod(0o700)
    assert packed() != first


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
    served = replace(spec, serving=ServingSpec("", 1, "p", token_secret="callers"))
    assert recipe.secrets(served) == ("broker", "callers", "plant-ca")


def test_who_serves_or_goes_on_by_tls_needs_the_certificate() -> None:
    plain, by_name = ServingSpec("", 1, "p", forward="http://x:2"), ServingSpec("", 1, "p", tls_name="x")
    onward = replace(plain, forward="https://x:2")
    found = [recipe.speaks_tls(replace(a_segment(), serving=each)) for each in (None, plain, by_name, onward)]
    assert found == [False, False, True, True]


def test_a_linter_finds_nothing() -> None:
    spec = a_segment()
    text = written_down(spec, BASE, "0.1.0", bundle_of(spec)).dockerfile
    done = subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), text
    bad = subprocess.run([HADOLINT, "-"], input="FROM x\n" + text, capture_output=True, text=True, check=False)
    assert bad.returncode == 1, "it can find something"


def a_wheel(folder: Path, files: dict[str, tuple[str, int]]) -> dict[str, object]:
    """A wheel of these files (text and mode), and what a lock says of it."""
    path = folder / "wheels" / "tool-1.0-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, (text, mode) in files.items():
            about = zipfile.ZipInfo(name)
            about.external_attr = mode << 16
            archive.writestr(about, text)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def a_lock(folder: Path, *wheels: dict[str, object], python: str = PYTHON) -> None:
    (folder / "lock.json").write_text(json.dumps({"target": f"{python}-x86_64-glibc-2.36", "wheels": wheels}))


def test_the_installer_makes_an_environment(tmp_path: Path) -> None:
    files = {
        "tool/__init__.py": ("WORD = 'here'\n", 0o644),
        "tool/bin/helper": ("#!/bin/sh\n", 0o755),
        "tool-1.0.data/purelib/more.py": ("import tool\n", 0o644),
        "tool-1.0.data/scripts/run-tool": ("#!python\n", 0o644),
        "tool-1.0.data/headers/tool.h": ("", 0o644),
        "tool-1.0.dist-info/METADATA": ("Metadata-Version: 2.1\nName: tool\nVersion: 1.0\n", 0o644),
    }
    a_lock(tmp_path, a_wheel(tmp_path, files))
    target = tmp_path / "made"
    assert install.main(tmp_path, target) == ""
    asks = "import more, tool, sys, importlib.metadata as m; print(tool.WORD, m.version('tool'), sys.path[-1])"
    said = subprocess.check_output([target / "bin" / "python", "-I", "-c", asks], text=True).split()
    site = target / "lib" / f"python{PYTHON}" / "site-packages"
    assert said[:2] == ["here", "1.0"]
    assert (site / "_fogline.pth").read_text() == "/fogline/runtime\n"
    assert os.access(site / "tool" / "bin" / "helper", os.X_OK)
    assert (target / "bin" / "run-tool").exists()
    assert list(site.glob("__pycache__/more.*.pyc")), "its root is read-only where it runs"
    assert not list(site.rglob("tool.h"))


@pytest.mark.parametrize("name", ["../../outside", "/outside", "tool-1.0.data/scripts/../../../outside"])
def test_a_wheel_stays_where_it_is_put(name: str, tmp_path: Path) -> None:
    a_lock(tmp_path, a_wheel(tmp_path, {name: ("", 0o644)}))
    assert install.main(tmp_path, tmp_path / "deep" / "made") == ""
    assert {each.is_relative_to(tmp_path / "deep" / "made") for each in tmp_path.rglob("outside")} == {True}
    assert not Path("/outside").exists()


def test_what_the_installer_refuses(tmp_path: Path) -> None:
    wheel = a_wheel(tmp_path, {"tool.py": ("", 0o644)})
    a_lock(tmp_path, wheel | {"sha256": "0" * 64})
    assert "is not what the lock says" in install.main(tmp_path, tmp_path / "made")
    a_lock(tmp_path, wheel, python="3.9")
    assert f"has Python {PYTHON}, and the packages were chosen for Python 3.9" in install.main(tmp_path, tmp_path / "m")


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/data/a.csv", "/data"),
        ("/data/2*/a.csv", "/data"),
        ("/data/in/*.csv", "/data/in"),
        ("/a.csv", "/"),
        ("/*/a.csv", "/"),
    ],
)
def test_the_folder_of_a_file(path: str, folder: str) -> None:
    assert recipe.folder_of(path) == folder


@pytest.mark.parametrize(
    ("folder", "may"),
    [
        ("/data", True),
        ("/home/plant/out", True),
        ("/tmp/x", True),
        ("/opt/data", True),
        ("/var/lib/plant", True),
        ("/", False),
        ("/etc", False),
        ("/etc/plant", False),
        ("/var/run/x", False),
        ("/opt/fogline/lib", False),
        ("/workspace", False),
        ("/tmp", False),
    ],
)
def test_which_folders_may_be_mounted(folder: str, may: bool) -> None:
    assert recipe.may_be_mounted(folder) is may
