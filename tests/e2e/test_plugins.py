"""Frameworks and connectors of other packages: the example, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.spec import EndpointSpec, StageSpec
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.segments import RunningSegment, command, mqtt_end, segment
from support.wheels import install, installed

EXAMPLE = Path(__file__).parents[2] / "examples/framework-plugin"
PLUGIN = """
from fogline.runtimes.plugins import Option, Plugin
PLUGIN = Plugin("{implementation}", (Option("path", "string", "A file.", "./m", required=True),))
"""
COORD = (sys.executable, "-m", "fogline.coordinator.cli.app")
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(EXAMPLE, tmp_path_factory.mktemp("lookup"))


def run(*argv: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False, env=environment)


def test_the_example_is_tried_with_coord_test(package: Path) -> None:
    arguments = ("test", str(EXAMPLE / "pipeline.json"), "--input", str(EXAMPLE / "sample.jsonl"))
    done = run(*COORD, *arguments, "--expect", str(EXAMPLE / "expected.jsonl"), path=package)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "3 records, as expected")
    without = run(*COORD, *arguments)
    assert without.returncode == 2
    assert "framework 'lookup' is not known" in without.stderr


def test_it_runs_as_a_segment(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(package))
    options = {"input": "machine", "output": "limit"}
    stage = StageSpec("limit", "lookup", ("in",), ("out",), path=str(EXAMPLE / "limits.json"), options=options)
    with Mosquitto(tmp_path / "broker") as broker:
        ends = {"in": mqtt_end("in", "limit", broker.port), "out": mqtt_end("out", "limit", broker.port)}
        spec = segment(stage, sources=(ends["in"],), sinks=(ends["out"],))
        with Peer(broker.port) as peer, RunningSegment(spec, tmp_path / "work") as process:
            peer.subscribe("t/out")
            process.until("ready")
            for machine in ("press", "drill", "lathe"):
                peer.publish("t/in", json.dumps({"machine": machine}).encode())
            peer.until(2)
            got = [json.loads(each) for each in peer.payloads]
            assert got == [{"machine": "press", "limit": 80}, {"machine": "lathe", "limit": 65}]
            assert process.counters("limit")["dead_lettered"] == 1


def test_where_the_package_is_not_there_the_segment_says_so(tmp_path: Path) -> None:
    stage = StageSpec("limit", "lookup", ("in",), ("out",), path=str(EXAMPLE / "limits.json"))
    (tmp_path / "spec.json").write_bytes(segment(stage).to_bytes())
    done = command("check", tmp_path / "spec.json", "--artifacts", tmp_path)
    assert json.loads(done.stdout)["reason"] == (
        "stage limit: neither this release nor a package installed here has a framework 'lookup'"
    )


def validated(path: Path, folder: Path, framework: str) -> str:
    document: dict[str, Any] = json.loads((EXAMPLE / "pipeline.json").read_text())
    document["pipeline"]["limit"] |= {"framework": framework, "props": {"path": "./m"}}
    (folder / "pipeline.json").write_text(json.dumps(document))
    return run(*COORD, "validate", str(folder / "pipeline.json"), path=path).stderr


def test_what_cannot_be_used_is_told_and_harms_nothing_else(tmp_path: Path) -> None:
    def offer(package: str, names: dict[str, str]) -> Path:
        module = package.replace("-", "_")
        sources = {
            f"{module}.py": PLUGIN.format(implementation=f"{module}:Absent") + "NONE = 3\n",
            f"{module}_broken.py": "raise ValueError('half written')\n",
        }
        points = {key: value.format(module) for key, value in names.items()}
        return install(tmp_path, package, "1.0", {"fogline.frameworks": points}, sources)

    offer("first", {"onnx": "{}:PLUGIN", "both": "{}:PLUGIN", "alone": "{}:PLUGIN"})
    path = offer("second", {"both": "{}:PLUGIN", "broken": "{}_broken:PLUGIN", "none": "{}:NONE"})
    said = validated(path, tmp_path, "onnx")
    assert "warning at /pipeline/limit/framework: framework 'onnx' of the package first is not used" in said
    assert "Fogline has framework 'onnx' itself" in said
    said = validated(path, tmp_path, "both")
    assert "error at /pipeline/limit/framework: framework 'both' is offered by the packages first and second" in said
    assert "'broken' of the package second cannot be loaded: ValueError: half written" in validated(
        path, tmp_path, "broken"
    )
    assert "'none' of the package second is no Plugin but int" in validated(path, tmp_path, "none")
    assert "error at /pipeline/limit/framework" not in validated(path, tmp_path, "alone")
    (tmp_path / "m").write_text("x")
    (tmp_path / "in.jsonl").write_text("{}\n")
    done = run(*COORD, "test", str(tmp_path / "pipeline.json"), "--input", str(tmp_path / "in.jsonl"), path=path)
    assert "framework alone cannot be imported from first:Absent" in done.stderr


def test_a_connector_of_another_package_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PLUGIN.format(implementation="fogline.runtimes.connectors.file:connector")
    path = install(tmp_path, "lines", "1.0", {"fogline.connectors": {"lines": "lines:PLUGIN"}}, {"lines.py": source})
    monkeypatch.setenv("PYTHONPATH", str(path))
    (tmp_path / "in.jsonl").write_text('{"machine": "press"}\n')
    (tmp_path / "code").mkdir()
    (tmp_path / "code/main.py").write_text("def handler(data):\n    return data\n")
    ends = [
        EndpointSpec(
            queue, "s", "lines", {"path": str(tmp_path / f"{queue}.jsonl"), "format": "json"}, f"c.{queue}", "g"
        )
        for queue in ("in", "out")
    ]
    stage = StageSpec("s", "code", ("in",), ("out",), path=str(tmp_path / "code"))
    with RunningSegment(segment(stage, sources=(ends[0],), sinks=(ends[1],)), tmp_path / "work") as process:
        assert process.wait() == 0, process.log()
    assert (tmp_path / "out.jsonl").read_text() == '{"machine":"press"}\n'
    assert "lines" in run(*COORD, "connectors", path=path).stdout
