"""A pipeline in a container: one ONNX model between two MQTT topics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.cluster import Cluster, write_json
from support.documents import a_queue
from support.models import a_summing_model


def document(folder: Path, port: int, **changes: Any) -> Path:
    """Its file."""
    (folder / "model.onnx").write_bytes(a_summing_model(folder))
    props = {"path": "./model.onnx", "input": "x", "output": "y"}
    stage = {"type": "model", "framework": "onnx", "props": props, "queues": {"input": "in", "output": "out"}}
    queues = {name: a_queue(f"boxed/{name}", port=port) for name in ("in", "out")}
    made = {"version": "1.0", "id": "boxed", "containerized": True, "queues": queues}
    return write_json(folder / "p.json", made | {"pipeline": {"judge": stage | changes}})


def ready(node: Cluster) -> bool:
    """Whether it takes records now."""
    return bool(node.stage("boxed", "judge")["state"] == "ready")
