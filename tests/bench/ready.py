"""From `coord submit` to every stage ready: code, an ONNX model and code again, on three agents."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.models import write
from bench.rows import Row, measured
from bench.size import Size
from support.cluster import LAYERS, cluster, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto


def rows(folder: Path, size: Size) -> list[Row]:
    """The wall time of the command, which returns with the verdict; each time under another id."""
    models = write(folder / "models", 10)
    write_code(folder / "code", "def handler(data):\n    return data\n")
    took_s = []
    with Mosquitto(folder / "broker") as broker, cluster(folder / "cluster", *LAYERS) as running:
        for turn in range(size.rounds):
            document = _document(folder, f"ready-{turn}", broker.port, models.onnx)
            began = time.perf_counter()
            running.coord("submit", str(document))
            took_s.append(time.perf_counter() - began)
            states = [row["state"] for row in running.status(f"ready-{turn}")["stages"]]
            if states != ["ready"] * 3:
                raise ValueError(f"submit succeeded, but the stages are {states}")
            running.coord("delete", f"ready-{turn}")
    name = "coord submit to every stage ready (code, ONNX, code on three agents; ready holds for 1 s)"
    return [measured(name, statistics.median(took_s), "s", "<= 3 s")]


def _document(folder: Path, id_: str, port: int, model: Path) -> Path:
    stages = {
        "first": a_stage("q1", "q2", infra="edge_node"),
        "judge": {
            "type": "model",
            "framework": "onnx",
            "props": {"path": str(model), "input": "features", "output": "score"},
            "queues": {"input": "q2", "output": "q3"},
            "infra": "cloud_1",
        },
        "last": a_stage("q3", "q4", infra="cloud_2"),
    }
    queues = {f"q{n}": a_queue(f"{id_}/{n}", port=port) for n in range(1, 5)}
    infra: dict[str, object] = {node: {} for node in LAYERS}
    document = {"version": "1.0", "id": id_, "pipeline": stages, "queues": queues, "infra": infra}
    return write_json(folder / f"{id_}.json", document)
