from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression

from fogline.runtimes.errors import BadMessage, StageUnusable
from fogline.runtimes.frameworks.base import Failed, Result
from fogline.runtimes.frameworks.sklearn_model import SklearnModel
from fogline.runtimes.spec import StageSpec

ROWS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


@pytest.fixture(autouse=True)
def filters_kept() -> Any:
    with warnings.catch_warnings():
        yield


def linear() -> LinearRegression:
    """y = a + 2 b"""
    return LinearRegression().fit(ROWS, ROWS @ [1.0, 2.0])


def loaded(folder: Path, model: Any, **options: Any) -> SklearnModel:
    path = folder / "model"
    if options.get("serializer") == "pickle":
        path.write_bytes(pickle.dumps(model))
    else:
        joblib.dump(model, path)
    return opened(path, **options)


def opened(path: Path, **options: Any) -> SklearnModel:
    stage = SklearnModel(StageSpec("m", "sklearn", ("in",), ("out",), path=str(path), options=options), path.parent)
    stage.load()
    return stage


def why(result: Result) -> str:
    assert isinstance(result, Failed)
    assert isinstance(result.error, BadMessage)
    return result.error.reason


@pytest.mark.parametrize("serializer", ["joblib", "pickle"])
def test_a_batch_is_predicted(tmp_path: Path, serializer: str) -> None:
    results = loaded(tmp_path, linear(), serializer=serializer).process([[1, 1], [2, 0]])
    assert [each[0] for each in results if isinstance(each, list)] == pytest.approx([3.0, 2.0])


def test_fields_in_and_answer_added(tmp_path: Path) -> None:
    stage = loaded(tmp_path, linear(), input=["a", "b"], output="y")
    (result,) = stage.process([{"b": 1, "a": 0, "id": "x"}])
    assert result == [{"b": 1, "a": 0, "id": "x", "y": pytest.approx(2.0)}]


def test_the_names_it_was_fitted_with_are_read_without_a_warning(tmp_path: Path) -> None:
    model = linear()
    model.feature_names_in_ = np.array(["a", "b"], dtype=object)
    assert loaded(tmp_path, model).process([{"b": 1, "a": 1, "other": 2}]) == [[pytest.approx(3.0)]]


def test_other_methods_answer(tmp_path: Path) -> None:
    model = LogisticRegression().fit(ROWS, ["low", "low", "low", "high"])
    assert loaded(tmp_path, model).process([[0, 0]]) == [["low"]]
    (answer,) = loaded(tmp_path, model, method="predict_proba").process([[0, 0]])
    assert isinstance(answer, list)
    assert sum(answer[0]) == pytest.approx(1.0)
    with pytest.raises(StageUnusable, match="LogisticRegression, which has no method 'transform'"):
        loaded(tmp_path, model, method="transform")


def test_a_bad_record_fails_alone(tmp_path: Path) -> None:
    results = loaded(tmp_path, linear()).process([[1, 1], [1], {"a": 1}, [1, None], ["x", 1], None, [2, 0]])
    assert [type(each) for each in results] == [list, Failed, Failed, Failed, Failed, Failed, list]
    assert "shape [2], got shape [1]" in why(results[1])
    assert "set props.input" in why(results[2])
    assert "expected a number each" in why(results[3])
    assert "refused the record: ValueError" in why(results[4])


def test_text_models_read_strings_and_sparse_answers_become_lists(tmp_path: Path) -> None:
    model = CountVectorizer().fit(["up down"])
    assert loaded(tmp_path, model, method="transform").process(["up up", "down"]) == [[[0, 2]], [[1, 0]]]


def test_a_model_of_one_feature_reads_a_number(tmp_path: Path) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    assert loaded(tmp_path, model).process([3]) == [[pytest.approx(6.0)]]


def test_a_model_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    model = DummyClassifier().fit([[0]], [0])
    path = tmp_path / "model"
    path.write_bytes(pickle.dumps(_Aged(model)))
    with pytest.raises(
        StageUnusable, match=r"saved with scikit-learn 0\.1\.0, here is .*install scikit-learn==0\.1\.0"
    ):
        opened(path, serializer="pickle")


def test_a_file_that_cannot_be_read_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"garbage")
    with pytest.raises(StageUnusable, match="model cannot be read as pickle: UnpicklingError"):
        opened(path, serializer="pickle")
    path.write_bytes(b"cnot_there\nThing\n.")
    with pytest.raises(StageUnusable, match="needs the module not_there"):
        opened(path, serializer="pickle")


class _Aged:
    """Pickles as the estimator would have by an older scikit-learn."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __reduce__(self) -> Any:
        state = self._model.__getstate__() | {"_sklearn_version": "0.1.0"}
        return DummyClassifier, (), state
