"""A node that reaches the coordinator and a broker, and nothing else, runs what it is given: no index needed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import link
from support.cluster import BIN, Cluster, cluster, wait_for, write_json
from support.documents import a_queue
from support.framework_kits import KITS, Keras
from support.link import Link
from support.mosquitto import Mosquitto, free_port
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.network, pytest.mark.timeout(240)]

MODELS = {"sklearn": "joblib", "onnx": "onnx", "tflite": "tflite"}
"""Stage, which is also its framework -> the kit of its model."""
RECORDS: list[dict[str, Any]] = [{"n": n, "x": [n, n + 1]} for n in range(50)]
REMOTE = "1.1.1.1"
"""Somewhere else."""


@pytest.fixture
def cable() -> Iterator[Link]:
    """The only network that the node has."""
    if what := link.missing():
        pytest.skip(f"a node without any other network needs {what}")
    with Link() as made:
        yield made


def _document(folder: Path, server: str, port: int) -> dict[str, Any]:
    keras = Keras(folder / "keras")
    try:
        paths = {stage: KITS[kit].put(folder, keras) for stage, kit in MODELS.items()}
    finally:
        keras.close()
    queues = {f"q{n}": a_queue(f"gap/{n}", server=server, port=port) for n in range(len(MODELS) + 1)}
    stages = {
        stage: {
            "type": "model",
            "framework": stage,
            "props": {"path": str(path), "input": "x", "output": stage},
            "queues": {"input": f"q{n}", "output": f"q{n + 1}"},
        }
        for n, (stage, path) in enumerate(paths.items())
    }
    return {"version": "1.0", "id": "gap", "pipeline": stages, "queues": queues}


def _packages(python: Path) -> set[str]:
    said = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
    done = subprocess.run([python, "-I", "-c", said], check=True, capture_output=True, text=True)
    return {name.lower().replace("_", "-") for name in done.stdout.split()}


def _environments(fleet: Cluster) -> dict[str, set[str]]:
    """Stage -> what the environment its process runs in holds."""
    rows = fleet.status("gap")["stages"]
    pythons = {row["name"]: Path(f"/proc/{row['pid']}/cmdline").read_bytes().split(b"\0")[0] for row in rows}
    return {stage: _packages(Path(python.decode())) for stage, python in pythons.items()}


def test_a_node_without_any_other_network_runs_every_light_framework(tmp_path: Path, cable: Link) -> None:
    port = free_port()
    with (
        Mosquitto(tmp_path / "broker", port=port, extra=(f"listener {port} {cable.here}",)) as broker,
        cluster(tmp_path / "cluster", host=cable.here) as fleet,
    ):
        inside = cable.inside(str(BIN / "fogline-agent"))
        fleet.start_agents("edge_node", program=inside, environments="store")
        reach = ["python3", "-c", f"import socket; socket.create_connection(('{REMOTE}', 443), 2)"]
        assert subprocess.run(cable.inside(*reach), capture_output=True, check=False).returncode != 0
        document = _document(tmp_path, cable.here, port)
        fleet.coord("submit", str(write_json(tmp_path / "p.json", document)), seconds=180.0)
        with Collector(broker.port, f"gap/{len(MODELS)}") as collector:
            lines = "".join(f"{each}\n".replace("'", '"') for each in RECORDS)
            fleet.coord("send", "gap", input_=lines)
            wait_for("every record", lambda: collector.distinct >= len(RECORDS))
        found = {record["n"]: record for record in collector.records}
        for record in RECORDS:
            for stage in MODELS:
                answer = found[record["n"]][stage]
                answer = answer[0] if isinstance(answer, list) else answer
                assert answer == pytest.approx(sum(record["x"]), abs=1e-3), stage
        held = _environments(fleet)
        assert "onnxruntime" in held["onnx"]
        assert not held["onnx"] & {
            "grpcio",
            "confluent-kafka",
            "kafka-python",
            "scikit-learn",
            "ai-edge-litert",
            "fogline",
        }
        assert "scikit-learn" in held["sklearn"]
        assert "onnxruntime" not in held["sklearn"]
        assert "ai-edge-litert" in held["tflite"]
