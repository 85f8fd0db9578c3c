"""One logistic regression over 20 features, as scikit-learn and as ONNX files, and records for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

FEATURES = 20


@dataclass(frozen=True)
class Models:
    """Both files, and what to feed them with."""

    sklearn: Path
    onnx: Path
    payloads: list[bytes]
    """JSON records `{"n": ..., "features": [...]}`, about 160 bytes each."""
    expected: list[dict[str, Any]]
    """Each record with the model's answer under `score`."""


def write(folder: Path, records: int) -> Models:
    """Fit the model on random rows and write everything."""
    chance = np.random.default_rng(1)
    rows = np.round(chance.normal(size=(max(records, 200), FEATURES)), 2)
    weights = chance.normal(size=FEATURES)
    model = LogisticRegression().fit(rows, rows @ weights > 0.1)
    model.classes_ = np.array([0, 1])
    answers = model.predict(rows).tolist()
    plain = [{"n": n, "features": row} for n, row in enumerate(rows.tolist()[:records])]
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, folder / "model.joblib")
    onnx.save(_as_onnx(model), folder / "model.onnx")
    return Models(
        folder / "model.joblib",
        folder / "model.onnx",
        [json.dumps(each, separators=(",", ":")).encode() for each in plain],
        [each | {"score": answers[n]} for n, each in enumerate(plain)],
    )


def _as_onnx(model: Any) -> Any:
    """The same decision: 1 where the row lies on the positive side."""
    constants = {"weights": model.coef_[0], "bias": np.array(model.intercept_[0]), "zero": np.array(0.0)}
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["side"]),
        helper.make_node("Greater", ["side", "zero"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["score"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", FEATURES])],
        [helper.make_tensor_value_info("score", TensorProto.INT64, ["n"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
