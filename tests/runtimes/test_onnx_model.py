from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fogline.runtimes.errors import BadMessage, StageUnusable
from fogline.runtimes.frameworks.base import Failed, Result
from fogline.runtimes.frameworks.onnx_model import OnnxModel
from fogline.runtimes.frameworks.tensor_model import CHUNK
from fogline.runtimes.spec import StageSpec

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Any = ()) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def summing(folder: Path, shape: list[Any], kind: int = FLOAT) -> Path:
    """Adds up each row's last axis."""
    axes = helper.make_tensor("axes", INT64, [1], [-1])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    return saved(folder, [node], [value("x", kind, shape)], [value("y", kind, shape[:-1])], [axes])


def loaded(path: Path, **options: Any) -> OnnxModel:
    model = OnnxModel(StageSpec("m", "onnx", ("in",), ("out",), path=str(path), options=options), path.parent)
    model.load()
    return model


def why(result: Result) -> str:
    assert isinstance(result, Failed)
    assert isinstance(result.error, BadMessage)
    return result.error.reason


def test_lists_go_through_as_one_batch(tmp_path: Path) -> None:
    model = loaded(summing(tmp_path, [None, 2]))
    assert model.process([[1, 2], [3.5, 4]]) == [[3.0], [7.5]]


def test_more_than_a_chunk(tmp_path: Path) -> None:
    records = [[float(number), 1.0] for number in range(2 * CHUNK + 3)]
    assert loaded(summing(tmp_path, ["n", 2])).process(records) == [[row[0] + 1] for row in records]


def test_an_object_gives_the_models_own_input(tmp_path: Path) -> None:
    model = loaded(summing(tmp_path, [None, 2]), output="total")
    assert model.process([{"x": [1, 2], "id": 7}]) == [[{"x": [1, 2], "id": 7, "total": 3.0}]]


def test_input_names_a_field_or_several(tmp_path: Path) -> None:
    path = summing(tmp_path, [None, 2])
    assert loaded(path, input="values").process([{"values": [1, 2]}]) == [[3.0]]
    assert loaded(path, input=["b", "a"]).process([{"a": 1, "b": 5}]) == [[6.0]]


def test_a_bad_record_fails_alone(tmp_path: Path) -> None:
    model = loaded(summing(tmp_path, [None, 2]), input="v")
    bad: list[Any] = [{}, 3, {"v": [1]}, {"v": [1, "2"]}, {"v": [1, None]}, {"v": "ab"}, {"v": [1, 1e300]}]
    results = model.process([{"v": [1, 2]}, *bad, {"v": [3, 4]}])
    assert (results[0], results[-1]) == ([3.0], [7.0])
    assert [why(result) for result in results[1:-1]] == [
        "input 'v' is missing; the record has no fields",
        "input 'v': expected an object with this field, the record is a number",
        "input 'x': expected a number each, shape [2], got shape [1]",
        "input 'x': expected a number each, shape [2], got [1, '2']",
        "input 'x': expected a number each, shape [2], got [1, None]",
        "input 'x': expected a number each, shape [2], got 'ab'",
        "input 'x': expected a number each, shape [2], got a number that float32 cannot hold",
    ]


def test_an_answer_needs_an_object_to_be_added_to(tmp_path: Path) -> None:
    assert "needs an object" in why(loaded(summing(tmp_path, [None, 2]), output="y").process([[1, 2]])[0])


def test_a_fixed_batch_of_one_runs_row_by_row(tmp_path: Path) -> None:
    model = loaded(summing(tmp_path, [1, 2]))
    assert model.process([[1, 2], [3, 4]]) == [[3.0], [7.0]]
    assert model.process([[[1, 2]]]) == [[3.0]]


def test_a_model_without_a_batch_takes_the_record_as_its_whole_input(tmp_path: Path) -> None:
    assert loaded(summing(tmp_path, [2, 2])).process([[[1, 2], [3, 4]]]) == [[[3.0, 7.0]]]


def test_rows_of_different_lengths_run_apart(tmp_path: Path) -> None:
    assert loaded(summing(tmp_path, [None, None])).process([[1, 2], [1, 2, 3]]) == [[3.0], [6.0]]


def test_several_inputs_and_outputs_have_names(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    ends = [value(name, FLOAT, [None]) for name in ("a", "b", "sum", "difference")]
    model = loaded(saved(tmp_path, nodes, ends[:2], ends[2:]))
    assert model.process([{"a": 3, "b": 1}, {"a": 5, "b": 5}]) == [
        [{"sum": 4.0, "difference": 2.0}],
        [{"sum": 10.0, "difference": 0.0}],
    ]
    assert why(model.process([{"a": 3}])[0]) == "input 'b' is missing; the record has 'a'"
    assert why(model.process([7])[0]) == "expected an object with the inputs 'a', 'b'"


def test_whole_numbers_are_not_rounded(tmp_path: Path) -> None:
    model = loaded(summing(tmp_path, [None, 2], INT64))
    assert model.process([[1, 2], [3.0, 4]]) == [[3], [7]]
    assert "not whole" in why(model.process([[1.5, 2]])[0])


def test_doubles_keep_their_precision(tmp_path: Path) -> None:
    assert loaded(summing(tmp_path, [None, 2], TensorProto.DOUBLE)).process([[0.1, 0.2]]) == [[0.1 + 0.2]]


def test_strings_are_a_type_too(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    path = saved(tmp_path, [node], [value("x", STRING, [None, 1])], [value("y", STRING, [None, 1])])
    model = loaded(path)
    assert model.process(["a", ["b"]]) == [[["a"]], [["b"]]]
    assert "expected a string each" in why(model.process([1])[0])


def test_a_single_number_is_a_row_of_one(tmp_path: Path) -> None:
    assert loaded(summing(tmp_path, [None, 1])).process([2, [3]]) == [[2.0], [3.0]]


def test_what_the_model_itself_refuses_fails_alone(tmp_path: Path) -> None:
    """A look-up out of range: only running the model shows it."""
    table = helper.make_tensor("table", FLOAT, [2], [10.0, 20.0])
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    model = loaded(saved(tmp_path, [node], [value("x", INT64, [None])], [value("y", FLOAT, [None])], [table]))
    first, second, third = model.process([0, 5, 1])
    assert (first, third) == ([10.0], [20.0])
    assert "refused the record" in why(second)


def test_a_file_that_is_no_model_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(StageUnusable, match="there is no model file"):
        loaded(path)
    path.write_bytes(b"not a model")
    with pytest.raises(StageUnusable) as caught:
        loaded(path)
    assert caught.value.reason.startswith("model.onnx is not an ONNX model this node can run: ")
    assert "\n" not in caught.value.reason


def test_records_are_not_touched_by_numpy(tmp_path: Path) -> None:
    (result,) = loaded(summing(tmp_path, [None, 2]), output="y").process([{"x": [1, 2]}])
    assert isinstance(result, list)
    assert not isinstance(result[0]["y"], np.generic)
