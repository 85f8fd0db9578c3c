"""Trains the detector on a recording and writes it as an ONNX model.

    python train.py record.jsonl --output models/detector.onnx
    python train.py cpu.csv --output models/csv-detector.onnx

The recording goes through the same preparation as the live records. The model is a Gaussian: its answer is
the Mahalanobis distance of a row from the recording's mean, divided by a threshold, so above 1 is an anomaly.
Everything is computed in float64, so that an answer does not depend on the rows beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from publish_csv import rows

PREPARATION = Path(__file__).parent / "preparation" / "main.py"

NOISE = {"cpu": 5.0, "disk": 1e6, "network": 1e6}
"""Spreads below these (per cent, bytes/s) count as these: after an idle recording not every move is odd."""
SHRINKAGE = 0.2
"""How far correlations are pulled towards none: a short recording overstates them."""
TRIMMED, FEWEST_TRIMMED = 0.02, 10
"""Share, and least number, of the oddest rows, which teach nothing: a recording may hold a burst itself."""
MARGIN = 1.5
"""An anomaly lies this many times further out than the oddest row that counted ..."""
LEAST_DISTANCE = 6.0
"""... and at least this many standard deviations."""
FEWEST_RECORDS = 50

Array = np.ndarray[Any, np.dtype[np.float64]]
Record = dict[str, Any]


def read(recording: Path) -> list[Record]:
    """The records of a CSV file (`timestamp,value`) or of a file of JSON lines."""
    if recording.suffix == ".csv":
        return list(rows(recording))
    return [json.loads(line) for line in recording.read_text().splitlines() if line.strip()]


def prepare(records: Iterable[Record]) -> list[Record]:
    """What the preparation stage makes of the records, starting with no memory of earlier ones."""
    handler = _fresh_handler()
    return [handler(record) for record in records]


def _fresh_handler() -> Callable[[Record], Record]:
    spec = importlib.util.spec_from_file_location("preparation_for_training", PREPARATION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Callable[[Record], Record] = module.handler
    return handler


def fit(features: Array, noise: Array) -> tuple[Array, Array]:
    """Mean [F] and weights [F, F]: |(row - mean) @ weights| is the score.

    `noise` [F] is the least standard deviation of each feature. Learns twice: the second time without the
    rows that the first time found oddest.
    """
    mean, weights = _gaussian(features, noise)
    distances = _distances(features, mean, weights)
    trimmed = max(round(TRIMMED * len(features)), FEWEST_TRIMMED)
    usual = features[np.argsort(distances, kind="stable")[:-trimmed]]
    mean, weights = _gaussian(usual, noise)
    threshold = max(MARGIN * float(_distances(usual, mean, weights).max()), LEAST_DISTANCE)
    return mean, weights / threshold


def _gaussian(features: Array, noise: Array) -> tuple[Array, Array]:
    mean = features.mean(axis=0)
    spread = np.maximum(features.std(axis=0), noise)
    scaled = (features - mean) / spread
    correlation = (1 - SHRINKAGE) * scaled.T @ scaled / len(features)
    np.fill_diagonal(correlation, 1.0)
    whitening = np.linalg.inv(np.linalg.cholesky(correlation)).T
    return mean, whitening / spread[:, np.newaxis]


def _distances(features: Array, mean: Array, weights: Array) -> Array:
    return np.asarray(np.linalg.norm((features - mean) @ weights, axis=1))


def noise_of(names: Iterable[str], features: Array) -> Array:
    """The least standard deviation of each feature; of an unknown field 1 % of its size."""
    size = np.abs(features).mean(axis=0)
    known = [NOISE.get(name) for name in names for _ in ("value", "change")]
    return np.array([max(0.01 * size[i], 1e-9) if least is None else least for i, least in enumerate(known)])


def model(mean: Array, weights: Array) -> onnx.ModelProto:
    """The ONNX model: input `features` [N, F], output `score` [N], both float64."""
    constants = {"mean": mean, "weights": weights, "rows": np.array([1])}
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], ["white"]),
        helper.make_node("Mul", ["white", "white"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "rows"], ["total"], keepdims=0),
        helper.make_node("Sqrt", ["total"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", len(mean)])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["n"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def train(records: list[Record]) -> onnx.ModelProto:
    """Train on raw records. Raises ValueError for too few of them or for records of different fields."""
    if len(records) < FEWEST_RECORDS:
        raise ValueError(f"{len(records)} records are too few to learn from: record at least {FEWEST_RECORDS}")
    prepared = prepare(records)
    names = list(prepared[0]["values"])
    other = next((each for each in prepared if list(each["values"]) != names), None)
    if other is not None:
        raise ValueError(f"the record of {other['timestamp']} has other fields than the first: {names}")
    features = np.array([each["features"] for each in prepared], dtype=np.float64)
    return model(*fit(features, noise_of(names, features)))


def main() -> int:
    """Read a recording, train, write the model."""
    parser = argparse.ArgumentParser(description="Train the anomaly detector on a recording.")
    parser.add_argument("recording", type=Path, help="NAME.csv (timestamp,value) or NAME.jsonl (a record a line)")
    parser.add_argument("--output", type=Path, default=Path("models/detector.onnx"), help="where the model goes")
    arguments = parser.parse_args()
    try:
        records = read(arguments.recording)
        trained = train(records)
    except (OSError, ValueError) as error:
        print(f"{arguments.recording}: {error}", file=sys.stderr)
        return 1
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(trained, arguments.output)
    print(f"{arguments.output}: learned from {len(records)} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
