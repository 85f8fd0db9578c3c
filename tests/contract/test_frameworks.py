"""What every framework must do, run over all of them with real code and real models."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fogline.runtimes import registry
from fogline.runtimes.codecs import encode_json
from fogline.runtimes.errors import BadMessage, StageUnusable
from fogline.runtimes.frameworks.base import Failed, Framework
from fogline.runtimes.frameworks.signature import Declared, Tensor
from fogline.runtimes.frameworks.tensor_model import TensorModel
from fogline.runtimes.spec import StageSpec
from support import tensorflow_env
from support.environments import NotInstalled
from support.framework_kits import KITS, NEED_TENSORFLOW, Keras
from support.segments import segment

CODE = {
    "code": """
def handler(data):
    return data | {"y": sum(data["x"])}
""",
    "code in batches": """
def handler(data):
    raise AssertionError("the batch function is there")

def handler_batch(records):
    return [data | {"y": data["x"][0] + data["x"][1]} for data in records]
""",
}
MODELS = [
    pytest.param(name, marks=[pytest.mark.e2e, pytest.mark.timeout(300)] if name in NEED_TENSORFLOW else [])
    for name in KITS
]
FRAMEWORK = {name: kit.framework for name, kit in KITS.items()}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keras]:
    try:
        made = Keras(tmp_path_factory.mktemp("keras"))
    except NotInstalled as reason:
        pytest.skip(str(reason))
    yield made
    made.close()


@pytest.fixture
def keras(request: pytest.FixtureRequest, name: str) -> Keras | None:
    if name not in NEED_TENSORFLOW:
        return None
    found: Keras = request.getfixturevalue("trained")
    return found


@pytest.fixture
def path(name: str, tmp_path: Path, keras: Keras | None) -> Path:
    """Of the code or the model."""
    if name in CODE:
        (tmp_path / "main.py").write_text(CODE[name])
        return tmp_path
    return KITS[name].put(tmp_path, keras)


@pytest.fixture
def framework(name: str, path: Path, keras: Keras | None) -> Iterator[Framework]:
    """Adds up `x` and puts the sum under `y`."""
    before = list(sys.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an overflow that a test is after
        yield loaded(name, path, keras, **({} if name in CODE else {"input": "x", "output": "y"}))
    sys.path[:] = before


def loaded(name: str, path: Path, keras: Keras | None, **options: Any) -> Framework:
    if name in CODE:
        made = registry.framework(StageSpec("s", "code", ("in",), ("out",), path=str(path), options=options), path)
    else:
        made = KITS[name].stage(path, keras, **options)
    made.load()
    return made


everything = pytest.mark.parametrize("name", [*CODE, *MODELS])
models = pytest.mark.parametrize("name", MODELS)


def record(number: int) -> dict[str, Any]:
    return {"x": [number / 1000, 1], "id": number}


def answer(result: Any) -> Any:
    assert isinstance(result, list), result
    (only,) = result
    return only


def number(value: Any) -> float:
    """Some models answer a matrix of one column."""
    return float(value[0] if isinstance(value, list) else value)


def tolerance(name: str) -> float:
    return KITS[name].tolerance if name in KITS else 1e-9


def why(result: Any) -> str:
    assert isinstance(result, Failed), result
    assert isinstance(result.error, BadMessage), result.error
    return result.error.reason


@everything
@pytest.mark.parametrize("count", [1, 3, 600])
def test_one_result_per_record_in_order(framework: Framework, count: int, name: str) -> None:
    answers = [answer(result) for result in framework.process([record(each) for each in range(count)])]
    assert [each["id"] for each in answers] == list(range(count))
    wanted = [each / 1000 + 1 for each in range(count)]
    assert [number(each["y"]) for each in answers] == pytest.approx(wanted, abs=tolerance(name))


@everything
def test_the_results_can_be_encoded(framework: Framework, name: str) -> None:
    encoded = orjson.loads(encode_json(answer(framework.process([record(1000)])[0])))
    assert number(encoded.pop("y")) == pytest.approx(2, abs=tolerance(name))
    assert encoded == {"x": [1, 1], "id": 1000}


@everything
@pytest.mark.parametrize("bad", [{}, {"x": None}, {"x": ["a", 1]}, 7, None])
def test_a_bad_record_is_a_result_and_nothing_is_raised(framework: Framework, bad: Any) -> None:
    (result,) = framework.process([bad])
    assert isinstance(result, Failed)


@everything
def test_after_a_failure_each_record_alone_still_works(framework: Framework) -> None:
    records: list[Any] = [record(0), {}, record(2)]
    framework.process(records)
    alone = [framework.process([each])[0] for each in (record(0), {}, record(2))]
    assert [type(each) for each in alone] == [list, Failed, list]


@everything
def test_what_is_not_there_is_an_error_that_names_the_stage(name: str, path: Path, keras: Keras | None) -> None:
    with pytest.raises(StageUnusable) as caught:
        loaded(name, path / "absent", keras)
    assert caught.value.stage == "s"
    assert "absent" in caught.value.reason


@models
def test_a_batch_answers_as_each_record_alone(framework: Framework) -> None:
    records = [record(each * 37 % 1000) for each in range(300)]
    together = framework.process([dict(each) for each in records])
    alone = [framework.process([dict(each)])[0] for each in records]
    assert [number(answer(each)["y"]) for each in together] == pytest.approx(
        [number(answer(each)["y"]) for each in alone], rel=1e-5, abs=1e-6
    )


@models
def test_a_batch_is_one_call_where_the_model_allows_it(framework: Framework, name: str) -> None:
    if not isinstance(framework, TensorModel):  # in a process of its own, or scikit-learn
        return
    calls, run = [], framework.run
    framework.run = lambda feed: calls.append(feed) or run(feed)  # type: ignore[method-assign, func-returns-value]
    framework.process([record(each) for each in range(200)])
    framework.process([record(each) for each in range(100)])
    assert len(calls) == (2 if KITS[name].batched else 300)


@models
def test_a_bad_record_of_a_batch_fails_alone_with_its_input_and_what_was_expected(framework: Framework) -> None:
    bad: list[Any] = [{"x": [1]}, {"x": [1, None]}, {"x": "1"}, {"id": 1}, 4, {"x": [[1, 2], [3, 4]]}]
    results = framework.process([record(0), *bad, record(1)])
    assert [type(each) for each in results] == [list, *[Failed] * len(bad), list]
    said = [why(each) for each in results[1:-1]]
    assert all("'x'" in each or "refused the record: ValueError" in each for each in said), said
    assert "a number each, shape [2], got" in said[0]
    assert "a number each, shape [2], got" in said[1]
    assert said[3] == "input 'x' is missing; the record has 'id'"
    assert said[4] == "input 'x': expected an object with this field, the record is a number"


@models
def test_without_output_the_answer_alone_goes_on(name: str, path: Path, keras: Keras | None) -> None:
    stage = loaded(name, path, keras, input=["a", "b"])
    (result,) = stage.process([{"b": 2, "a": 1}])
    assert number(answer(result)) == pytest.approx(3, abs=tolerance(name))
    bare = loaded(name, path, keras, output="y")
    assert "needs an object to add to" in why(bare.process([[1, 2]])[0])


@models
def test_an_input_of_the_models_own_name_needs_no_option(name: str, path: Path, keras: Keras | None) -> None:
    stage = loaded(name, path, keras)
    assert number(answer(stage.process([[1, 1]])[0])) == pytest.approx(2, abs=tolerance(name))
    if KITS[name].framework == "sklearn":  # fitted without names: that it reads two numbers is all it says
        assert stage.inputs == (Tensor("record", "float64", (2,)),)
        assert "set props.input" in why(stage.process([{"x": [1, 1]}])[0])
    else:
        assert stage.inputs == (Tensor("x", "float32", (2,)),)
        assert number(answer(stage.process([{"x": [1, 1]}])[0])) == pytest.approx(2, abs=tolerance(name))


@models
def test_what_it_says_of_its_records_is_told_to_callers(name: str, path: Path, keras: Keras | None) -> None:
    plain, named = (loaded(name, path, keras, **given).signature() for given in ({}, {"input": ["a", "b"]}))
    assert plain is not None
    assert named is not None
    sklearn = KITS[name].framework == "sklearn"
    assert plain.inputs == (Declared("" if sklearn else "x", "FP64" if sklearn else "FP32", (2,)),)
    assert [(each.name, each.shape) for each in named.inputs] == [("a", ()), ("b", ())]
    assert (plain.only_object, named.only_object) == (False, True)


@models
def test_numbers_that_no_json_holds_do_not_leave_the_stage(framework: Framework, name: str) -> None:
    nan = framework.process([{"x": [float("nan"), 1]}, {"x": [float("inf"), 1]}, record(1)])
    assert [type(each) for each in nan] == [Failed, Failed, list]
    assert "a number that" in why(nan[0])
    largest = 1.7e308 if KITS[name].framework == "sklearn" else 3e38
    if name == "tflite in int8":  # as large as it can answer
        return
    with pytest.raises(BadMessage):
        encode_json(answer(framework.process([{"x": [largest, largest]}])[0]))


@models
def test_a_file_of_another_framework_is_told_as_such(name: str, tmp_path: Path, keras: Keras | None) -> None:
    theirs = [each for each, framework in FRAMEWORK.items() if framework != FRAMEWORK[name]]
    if keras is None:
        theirs = [each for each in theirs if each not in NEED_TENSORFLOW]
    for other in theirs:
        (folder := tmp_path / other).mkdir()
        with pytest.raises(StageUnusable, match=r"it looks like an? ") as caught:
            loaded(name, KITS[other].put(folder, keras), keras)
        assert f"set framework to {FRAMEWORK[other]}" in caught.value.reason
        assert KITS[other].model in caught.value.reason


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["onnx", "joblib", "pickle"])
def test_so_is_one_of_tensorflow(name: str, tmp_path: Path, trained: Keras) -> None:
    for other in sorted(NEED_TENSORFLOW):
        (folder := tmp_path / other).mkdir()
        with pytest.raises(StageUnusable, match=f"set framework to {FRAMEWORK[other]}"):
            loaded(name, KITS[other].put(folder, trained), None)


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["h5", "keras", "savedmodel"])
def test_a_wrong_serializer_is_told_with_the_right_one(name: str, path: Path, keras: Keras) -> None:
    for wrong in {"h5", "keras", "savedmodel"} - {name}:
        with pytest.raises(StageUnusable, match=f"serializer to {name}$"):
            loaded(name, path, keras, serializer=wrong)


@models
@pytest.mark.parametrize("left", [0, 0.5, 0.9])
def test_a_truncated_or_empty_file_is_refused(name: str, path: Path, keras: Keras | None, left: float) -> None:
    file = path / "saved_model.pb" if path.is_dir() else path
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(StageUnusable) as caught:
        loaded(name, path, keras)
    assert path.name in caught.value.reason
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 600
    assert left or "is empty" in caught.value.reason or path.is_dir()


@models
def test_garbage_is_refused(name: str, path: Path, keras: Keras | None) -> None:
    file = path / "saved_model.pb" if path.is_dir() else path
    file.write_bytes(b"\x00garbage" * 999)
    with pytest.raises(StageUnusable, match=path.name):
        loaded(name, path, keras)


@models
def test_a_missing_library_is_named(
    name: str, path: Path, keras: Keras | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = KITS[name]
    for module in filter(None, (kit.module, kit.module and "tflite_runtime.interpreter")):
        monkeypatch.setitem(sys.modules, module, None)
    stage = registry.framework(StageSpec("s", kit.framework, (), (), path=str(path), options=kit.options), path.parent)
    with pytest.raises(StageUnusable, match=r"needs .* not installed here: fogline\[" + kit.framework):
        stage.load()


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["pair.h5", "pair.keras", "pair", "pair.tflite"])
def test_named_inputs_and_outputs_go_by_their_names(form: str, trained: Keras) -> None:
    name = {"pair.h5": "h5", "pair.keras": "keras", "pair": "savedmodel", "pair.tflite": "tflite"}[form]
    stage = loaded(name, trained.folder / form, trained)
    assert {each.name for each in stage.inputs} == {"a", "b"}
    good, missing, none = stage.process([{"b": 2, "a": 1, "c": 3}, {"a": 1}, [1]])
    assert answer(good) == {"total": [pytest.approx(3, abs=1e-2)], "difference": [pytest.approx(-1, abs=1e-2)]}
    assert why(missing) == "input 'b' is missing; the record has 'a'"
    assert why(none) == "expected an object with the inputs 'a', 'b'"


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_recurrent_model_answers_alike_in_every_form(trained: Keras) -> None:
    window = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]]
    forms = {"h5": "lstm.h5", "keras": "lstm.keras", "savedmodel": "lstm", "tflite": "lstm.tflite"}
    found = []
    for name, form in forms.items():
        results = loaded(name, trained.folder / form, trained).process([window, window[:3], window])
        assert "shape [4, 2], got shape [3, 2]" in why(results[1])
        found += [number(answer(results[0])), number(answer(results[2]))]
    assert found == pytest.approx([found[0]] * len(found), abs=1e-5)
    assert found[0] == pytest.approx(0.45, abs=0.1)


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["h5", "keras"])
def test_an_artifact_has_no_ending(name: str, path: Path, keras: Keras) -> None:
    stage = loaded(name, path.rename(path.with_name("d" * 64)), keras)
    assert number(answer(stage.process([[1, 2]])[0])) == pytest.approx(3, abs=1e-3)


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_saved_model_runs_in_a_stage_process(trained: Keras, tmp_path: Path) -> None:
    digest = "d" * 64
    shutil.copytree(trained.folder / "sum", tmp_path / digest)
    options = {"input": "x", "serializer": "savedmodel"}
    stage = StageSpec("s", "tensorflow", ("in",), ("out",), artifact=digest, options=options, bundled=True)
    (tmp_path / "spec.json").write_bytes(segment(stage).to_bytes())
    argv = [str(tensorflow_env.python()), "-m", "fogline.runtimes", "test", str(tmp_path / "spec.json")]
    argv += ["--artifacts", str(tmp_path)]
    records, environment = b'{"x": [1, 2]}\n{"x": [3, 4]}\n', tensorflow_env.environment()
    done = subprocess.run(argv, env=environment, input=records, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [number(orjson.loads(line)) for line in done.stdout.splitlines()] == pytest.approx([3, 7], abs=1e-3)
    assert done.stderr == b""


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_tensorflow_leaves_the_log_of_a_stage_readable(trained: Keras) -> None:
    loaded("keras", trained.folder / "sum.keras", trained).process([[1, 2]])
    assert trained.process.log.read_text() == ""
