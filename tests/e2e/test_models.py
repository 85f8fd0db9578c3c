"""Models that are folders, those of MLflow, and a framework of another package, by a real coordinator and agent."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression

from support.cluster import cluster, wait_for, write_json
from support.wheels import installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parents[2] / "examples"
WIDE = 4096


def an_onnx_folder(folder: Path) -> None:
    """The mean of two numbers, by weights large enough to be kept beside the model."""
    folder.mkdir()
    weights = [np.full((2, WIDE), 0.5, "float32"), np.full((WIDE, 1), 1 / WIDE, "float32")]
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["h"]), helper.make_node("MatMul", ["h", "w1"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size]) for name, size in (("x", 2), ("y", 1))]
    tensors = [numpy_helper.from_array(each, f"w{place}") for place, each in enumerate(weights)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin")
    assert (folder / "weights.bin").stat().st_size > 4 * WIDE


def an_mlflow_folder(folder: Path) -> None:
    """a + 2 b, its columns named by the signature."""
    folder.mkdir()
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    (folder / "model.pkl").write_bytes(pickle.dumps(LinearRegression().fit(rows, rows @ [1.0, 2.0])))
    flavors = {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"}}
    columns = '[{"type": "double", "name": "b"}, {"type": "double", "name": "a"}]'
    described = {"flavors": flavors, "signature": {"inputs": columns}}
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def a_model(path: str, reads: str, writes: str, **more: Any) -> dict[str, Any]:
    queues = {"input": reads, "output": writes}
    props = {"path": path, **more.pop("props", {})}
    return {"type": "model", "props": props, "queues": queues, **more}


def test_they_run_where_they_are_submitted_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(installed(EXAMPLES / "framework-plugin", tmp_path / "package")))
    an_onnx_folder(tmp_path / "mean")
    an_mlflow_folder(tmp_path / "sum")
    (tmp_path / "table.json").write_text('{"press": 80}')
    looked_up = {"input": "machine", "output": "limit"}
    stages = {
        "look": a_model("./table.json", "in", "add", framework="lookup", props=looked_up),
        "add": a_model("./sum", "look", "mean", props={"output": "sum"}),
        "mean": a_model(
            "./mean",
            "add",
            "out",
            framework="onnx",
            props={"serializer": "onnx-folder", "input": ["a", "b"], "output": "mean"},
        ),
    }
    queues = {
        "in": {"connector": "file", "props": {"path": str(tmp_path / "in.jsonl")}},
        "out": {"connector": "file", "props": {"path": str(tmp_path / "out.jsonl")}},
    }
    document = {"version": "1.0", "id": "models", "pipeline": stages, "queues": queues}
    write_json(tmp_path / "p.json", document)
    (tmp_path / "in.jsonl").write_text('{"machine": "press", "a": 1, "b": 2}\n')
    with cluster(tmp_path / "cluster", "edge_node") as fleet:
        assert "lookup" in fleet.coord("nodes", "--output", "json").stdout
        fleet.coord("submit", str(tmp_path / "p.json"))
        wait_for("it has finished", lambda: fleet.status("models")["state"] == "finished")
        kept = json.loads(fleet.coord("get", "models").stdout)
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    # The columns of the signature are b and a: fitted in this order, 1 b + 2 a.
    wanted = {"sum": pytest.approx(4), "mean": [pytest.approx(1.5)]}
    assert json.loads(line) == {"machine": "press", "a": 1, "b": 2, "limit": 80, **wanted}
    assert kept["pipeline"]["add"]["framework"] == "sklearn"
