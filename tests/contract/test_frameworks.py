"""What every framework must do, run over all of them with real code and real models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression

from fogline.runtimes import registry
from fogline.runtimes.codecs import encode_json
from fogline.runtimes.errors import StageUnusable
from fogline.runtimes.frameworks.base import Failed, Framework
from fogline.runtimes.spec import StageSpec

CODE = """
def handler(data):
    return data | {"y": sum(data["x"])}
"""
BATCH = """
def handler(data):
    raise AssertionError("the batch function is there")

def handler_batch(records):
    return [data | {"y": data["x"][0] + data["x"][1]} for data in records]
"""


def code(folder: Path, source: str) -> str:
    (folder / "main.py").write_text(source)
    return "code"


def onnx_sum(folder: Path) -> str:
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    ends.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]))
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model")
    return "onnx"


def sklearn_sum(folder: Path) -> str:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    joblib.dump(LinearRegression().fit(rows, rows.sum(axis=1)), folder / "model")
    return "sklearn"


MAKERS: dict[str, Callable[[Path], str]] = {
    "code": lambda folder: code(folder, CODE),
    "code in batches": lambda folder: code(folder, BATCH),
    "onnx": onnx_sum,
    "sklearn": sklearn_sum,
}


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def framework(name: str, tmp_path: Path) -> Iterator[Framework]:
    """Each adds up `x` and puts the sum under `y`."""
    path = list(sys.path)
    made = MAKERS[name](tmp_path)
    place = tmp_path if made == "code" else tmp_path / "model"
    options = {} if made == "code" else {"input": "x", "output": "y"}
    loaded = registry.framework(StageSpec("s", made, ("in",), ("out",), path=str(place), options=options), tmp_path)
    loaded.load()
    yield loaded
    sys.path[:] = path


def record(number: int) -> dict[str, Any]:
    return {"x": [number, 1], "id": number}


def answer(result: Any) -> Any:
    assert isinstance(result, list)
    (only,) = result
    return only


@pytest.mark.parametrize("count", [1, 3, 2000])
def test_one_result_per_record_in_order(framework: Framework, count: int) -> None:
    answers = [answer(result) for result in framework.process([record(number) for number in range(count)])]
    assert [each["id"] for each in answers] == list(range(count))
    assert [each["y"] for each in answers] == pytest.approx([number + 1 for number in range(count)])


def test_the_results_can_be_encoded(framework: Framework) -> None:
    encoded = encode_json(answer(framework.process([record(1)])[0]))
    assert orjson.loads(encoded) == {"x": [1, 1], "id": 1, "y": pytest.approx(2)}


@pytest.mark.parametrize("bad", [{}, {"x": None}, {"x": ["a", 1]}, 7, None])
def test_a_bad_record_is_a_result_and_nothing_is_raised(framework: Framework, bad: Any) -> None:
    (result,) = framework.process([bad])
    assert isinstance(result, Failed)


def test_after_a_failure_each_record_alone_still_works(framework: Framework) -> None:
    records: list[Any] = [record(0), {}, record(2)]
    framework.process(records)
    alone = [framework.process([each])[0] for each in (record(0), {}, record(2))]
    assert [type(each) for each in alone] == [list, Failed, list]


def test_what_is_not_there_is_an_error_that_names_the_stage(name: str, tmp_path: Path) -> None:
    made = MAKERS[name](tmp_path)
    stage = StageSpec("s", made, ("in",), ("out",), path=str(tmp_path / "absent"))
    with pytest.raises(StageUnusable) as caught:
        registry.framework(stage, tmp_path).load()
    assert caught.value.stage == "s"
    assert "absent" in caught.value.reason
