"""Pipelines in containers, and what the engine says of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from support.cluster import Cluster, write_json
from support.documents import a_queue
from support.models import a_summing_model


def document(folder: Path, port: int, **changes: Any) -> Path:
    """The file of a pipeline: one ONNX model between two MQTT topics."""
    (folder / "model.onnx").write_bytes(a_summing_model(folder))
    props = {"path": "./model.onnx", "input": "x", "output": "y"}
    stage = {"type": "model", "framework": "onnx", "props": props, "queues": {"input": "in", "output": "out"}}
    queues = {name: a_queue(f"boxed/{name}", port=port) for name in ("in", "out")}
    made = {"version": "1.0", "id": "boxed", "containerized": True, "queues": queues}
    return write_json(folder / "p.json", made | {"pipeline": {"judge": stage | changes}})


def ready(node: Cluster) -> bool:
    """Whether it takes records now."""
    return bool(node.stage("boxed", "judge")["state"] == "ready")


def boxes(cluster: Cluster, id_: str = "") -> list[dict[str, Any]]:
    """The containers of a cluster's nodes, or those of one of its pipelines, running or not."""
    chosen = f"label=fogline.pipeline={id_}" if id_ else "label=fogline.assignment"
    ids = subprocess.check_output(["docker", "ps", "-aq", "--filter", chosen], text=True).split()
    done = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=False)  # one of them may be going
    found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return [each for each in found if each["Config"]["Labels"]["fogline.state-dir"].startswith(f"{cluster.folder}/")]
