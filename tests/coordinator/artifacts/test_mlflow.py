"""Folders of models as MLflow saves them, written here in its form: read without it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression

from fogline.coordinator.artifacts.mlflow import MlflowModel, completed, read_model
from fogline.coordinator.artifacts.onnx_file import onnx_inputs
from fogline.coordinator.artifacts.resolve import resolve
from fogline.coordinator.padl.parse import Loaded, load
from fogline.coordinator.padl.verdict import judge
from fogline.wire.terms import FoglineError
from support.padl_files import a_document, with_value, written

COLUMNS = '[{"type": "double", "name": "a", "required": true}, {"type": "double", "name": "b", "required": true}]'
TENSOR = '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]'
PACKAGES = "mlflow==3.17.2\ncloudpickle==3.1.3\nnumpy==2.4.6  # of the model\n\n# own\nscikit-learn==1.9.1"
JUDGE = "pipeline/judge"


def a_folder(folder: Path, flavors: dict[str, Any], files: dict[str, bytes], **more: Any) -> Path:
    """As `save_model` leaves it, with the files of one's own."""
    python = {"python_function": {"loader_module": "mlflow.x", "python_version": "3.11.7"}}
    described = {"flavors": {**python, **flavors}, "mlflow_version": "3.17.2", **more}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    (folder / "requirements.txt").write_text(PACKAGES)
    (folder / "conda.yaml").write_text("name: mlflow-env\n")
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def sklearn_folder(folder: Path, written_by: str = "cloudpickle", data: bytes = b"model") -> Path:
    name = "model.skops" if written_by == "skops" else "model.pkl"
    flavor = {"pickled_model": name, "serialization_format": written_by, "sklearn_version": "1.9.1"}
    return a_folder(folder, {"sklearn": flavor}, {name: data}, signature={"inputs": COLUMNS, "outputs": TENSOR})


def named(folder: Path, **props: Any) -> Loaded:
    """A document whose model stage names the folder and no framework."""
    raw = with_value(a_document(), JUDGE + "/props", {"path": f"./{folder.name}", **props})
    framework = raw["pipeline"]["judge"].pop("framework")
    assert framework == "onnx"
    return completed(load([written(folder.parent, raw)]))


FORMS: list[tuple[dict[str, Any], list[str], str, str, str]] = [
    ({"sklearn": {"pickled_model": "model.pkl"}}, ["model.pkl"], "sklearn", "pickle", "model.pkl"),
    (
        {"sklearn": {"pickled_model": "m.pkl", "serialization_format": "cloudpickle"}},
        ["m.pkl"],
        "sklearn",
        "pickle",
        "m.pkl",
    ),
    ({"onnx": {"data": "model.onnx"}}, ["model.onnx"], "onnx", "onnx", "model.onnx"),
    ({"onnx": {"data": "model.onnx"}}, ["model.onnx", "b71b.data"], "onnx", "onnx-folder", ""),
    ({"onnx": {"data": "model.onnx"}}, ["model.onnx", "weights"], "onnx", "onnx-folder", ""),
    ({"keras": {"data": "data"}}, ["data/model.keras"], "tensorflow", "keras", "data/model.keras"),
    ({"tensorflow": {"data": "data"}}, ["data/model.h5"], "tensorflow", "h5", "data/model.h5"),
    ({"tensorflow": {"data": "data"}}, ["data/model/saved_model.pb"], "tensorflow", "savedmodel", "data/model"),
    ({"tensorflow": {"saved_model_dir": "tf2"}}, ["tf2/saved_model.pb"], "tensorflow", "savedmodel", "tf2"),
    ({"keras": {"data": "model.keras"}}, ["model.keras"], "tensorflow", "keras", "model.keras"),
]


@pytest.mark.parametrize(("flavors", "files", "framework", "serializer", "inside"), FORMS, ids=range(len(FORMS)))
def test_the_flavor_says_framework_and_file(
    tmp_path: Path, flavors: dict[str, Any], files: list[str], framework: str, serializer: str, inside: str
) -> None:
    folder = a_folder(tmp_path / "m", flavors, dict.fromkeys(files, b"x"))
    wanted = ("cloudpickle==3.1.3", "numpy==2.4.6", "scikit-learn==1.9.1")
    assert read_model(folder) == MlflowModel(framework, serializer, folder / inside, wanted)


@pytest.mark.parametrize("signature", [None, {}, {"inputs": TENSOR}, {"inputs": "no json"}, {"inputs": "[1]"}, "x"])
def test_only_named_columns_become_inputs(tmp_path: Path, signature: Any) -> None:
    flavors = {"sklearn": {"pickled_model": "model.pkl"}}
    assert read_model(a_folder(tmp_path / "m", flavors, {"model.pkl": b"x"}, signature=signature)).columns == ()


def an_onnx(folder: Path, *inputs: str) -> Path:
    """An MLflow folder of a model with these inputs, and a weight that older files name among them."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [None, 2]) for each in (*inputs, "w")]
    node = helper.make_node("Sum", [*inputs, "w"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    model = helper.make_model(helper.make_graph([node], "g", ends, [output], [weight]))
    flavors = {"onnx": {"data": "model.onnx"}}
    return a_folder(folder, flavors, {"model.onnx": model.SerializeToString()}, signature={"inputs": COLUMNS})


def test_columns_are_the_parts_of_a_single_input_and_else_its_own_names(tmp_path: Path) -> None:
    one, two = an_onnx(tmp_path / "one", "X"), an_onnx(tmp_path / "two", "b", "a")
    assert onnx_inputs(one / "model.onnx") == ("X",)
    assert onnx_inputs(two / "model.onnx") == ("b", "a")
    assert read_model(one).columns == ("a", "b")
    assert read_model(two).columns == ()
    data = (one / "model.onnx").read_bytes()
    for end in range(len(data)):
        (one / "model.onnx").write_bytes(data[:end])
        assert read_model(one).columns in {(), ("a", "b")}


def test_tensorflow_is_asked_for_in_one_build_alone(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "m", {"keras": {"data": "data"}}, {"data/model.keras": b"x"})
    (folder / "requirements.txt").write_text("mlflow-skinny==3\ntensorflow==2.21.0\nkeras==3.15.1\n")
    assert read_model(folder).requirements == (
        "tensorflow-cpu==2.21.0; platform_machine == 'x86_64'",
        "tensorflow==2.21.0; platform_machine != 'x86_64'",
        "keras==3.15.1",
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"sklearn": {"pickled_model": "model.skops", "serialization_format": "skops"}}, "written by skops, which is not"),
    ({"xgboost": {"data": "model.xgb"}}, "has the flavors python_function, xgboost; known: keras, onnx, sklearn"),
    ({"sklearn": {"pickled_model": "../model.pkl"}}, "names '../model.pkl', which leads out of the folder"),
    ({"onnx": {"data": "absent.onnx"}}, "absent.onnx, which is not there: save the model again"),
    ({"keras": {"data": "data"}}, "holds none of model.h5, model.keras"),
]


@pytest.mark.parametrize(("flavors", "message"), REFUSED)
def test_what_cannot_be_run_is_told_with_its_place(tmp_path: Path, flavors: dict[str, Any], message: str) -> None:
    folder = a_folder(tmp_path / "m", flavors, {"model.skops": b"x", "data/other": b"x"})
    with pytest.raises(FoglineError, match=message):
        read_model(folder)
    problem = next(each for each in judge(named(folder)) if message in each.message)
    assert problem.pointer == "/pipeline/judge/props/path"
    assert problem.line


def test_skops_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(FoglineError, match=r'serialization_format="cloudpickle"'):
        read_model(sklearn_folder(tmp_path / "m", "skops"))


@pytest.mark.parametrize("text", ["", "flavors: 3", "a: [", "- x", "\x00"])
def test_a_broken_description_is_told(tmp_path: Path, text: str) -> None:
    folder = sklearn_folder(tmp_path / "m")
    (folder / "MLmodel").write_text(text)
    with pytest.raises(FoglineError, match="MLmodel is not a description of a model"):
        read_model(folder)


def test_a_line_of_its_requirements_that_is_none_is_told(tmp_path: Path) -> None:
    folder = sklearn_folder(tmp_path / "m")
    (folder / "requirements.txt").write_text("numpy==2\n-r other.txt\n")
    with pytest.raises(FoglineError, match=r"requirements.txt:2: '-r other.txt' is not a requirement"):
        read_model(folder)


def test_the_document_is_completed_and_only_where_it_is_silent(tmp_path: Path) -> None:
    folder = sklearn_folder(tmp_path / "m")
    loaded = named(folder)
    assert judge(loaded) == []
    stage = loaded.raw["pipeline"]["judge"]
    assert stage["framework"] == "sklearn"
    assert stage["props"] == {"path": "./m", "serializer": "pickle", "input": ["a", "b"]}
    assert named(folder, input="x").raw["pipeline"]["judge"]["props"]["input"] == "x"
    found = resolve(loaded)
    assert [each for each in found.problems if "judge" in each.pointer] == []
    assert found.paths["judge"] == folder / "model.pkl"
    assert found.blobs[found.artifacts["judge"]] == folder / "model.pkl"
    assert found.requirements["judge"] == ("cloudpickle==3.1.3", "numpy==2.4.6", "scikit-learn==1.9.1")


def test_another_framework_or_serializer_is_an_error_that_names_both(tmp_path: Path) -> None:
    folder = sklearn_folder(tmp_path / "m")
    raw = with_value(a_document(), JUDGE + "/props", {"path": "./m"})
    (problem,) = judge(completed(load([written(tmp_path, raw)])))
    assert problem.pointer == "/pipeline/judge/framework"
    assert problem.message == "framework 'onnx' is not that of the MLflow model, 'sklearn'"
    same = with_value(raw, JUDGE + "/framework", "scikit-learn")
    assert judge(completed(load([written(tmp_path, same)]))) == []
    (problem,) = judge(named(folder, serializer="joblib"))
    assert "serializer 'joblib' is not that of the MLflow model, 'pickle'" in problem.message


def test_a_path_that_nobody_can_read_is_told_once(tmp_path: Path) -> None:
    raw = with_value(a_document(), JUDGE + "/props", {"path": "x" * 5000})
    (problem,) = judge(completed(load([written(tmp_path, raw)])))
    assert "cannot be read: File name too long" in problem.message


def test_the_older_form_names_the_folder_by_model(tmp_path: Path) -> None:
    sklearn_folder(tmp_path / "m")
    stage = {"model": "./m", "queues": {"input": "in"}}
    raw = {"version": 1.0, "id": "old", "pipeline": {"net": stage}, "queues": {"in": {"path": "mqtt://edge/in"}}}
    loaded = completed(load([written(tmp_path, raw)]))
    assert [each for each in judge(loaded) if each.severity == "error"] == []
    assert resolve(loaded).paths["net"] == tmp_path / "m" / "model.pkl"


@pytest.mark.e2e
def test_a_model_of_mlflow_answers_by_its_columns(tmp_path: Path) -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    model = LinearRegression().fit(rows, rows @ [1.0, 2.0])
    for form in ("cloudpickle", "pickle"):
        sklearn_folder(tmp_path / "m", form, pickle.dumps(model))
        stage = {"type": "model", "props": {"path": "./m"}, "queues": {"input": "in", "output": "out"}}
        queue = {"connector": "mqtt", "props": {"server": "localhost", "topic": "t"}}
        raw = {"version": "1.0", "pipeline": {"net": stage}, "queues": {"in": queue, "out": queue}}
        (tmp_path / "in.jsonl").write_text('{"b": 2, "a": 1}\n')
        command = [sys.executable, "-m", "fogline.coordinator.cli.app", "test", str(written(tmp_path, raw))]
        command += ["--input", str(tmp_path / "in.jsonl")]
        done = subprocess.run(command, capture_output=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == pytest.approx(5)
