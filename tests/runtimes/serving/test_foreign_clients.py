"""Clients of other inference servers, unchanged, each from its own environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fogline.runtimes.spec import StageSpec
from support import tensorflow_env
from support.clients import answers, missing
from support.framework_kits import Keras
from support.segments import RunningSegment
from support.served import Served, calling, served, serving

CASES: dict[str, tuple[str, str, str, list[Any], list[Any]]] = {
    "sklearn": ("input", "FP64", "predict", [[1, 1, 1], [-1, -1, -1]], [1, 0]),
    "onnx": ("x", "FP32", "doubled", [[1, 2, 3], [0.5, 0, -1]], [[2, 4, 6], [1, 0, -2]]),
    "code": ("input", "BYTES", "output", ['{"a": 1}', '"none"'], ['{"got":{"a":1}}', "null"]),
}
"""Framework -> name of the input, its datatype, name of the output, rows, answers."""
SUMS = {"tflite": "sum.tflite", "tensorflow": "sum.h5"}
"""Framework -> a model of Keras that adds up two numbers, as well as it has learned to."""
WAYS = [f"binary {given}, {asked}" for given in (False, True) for asked in (None, False, True)]


@pytest.mark.e2e
@pytest.mark.parametrize("framework", CASES)
@pytest.mark.parametrize("client", ["tritonclient", "kserve"])
def test_a_foreign_client_gets_the_right_answers(client: str, framework: str, running: dict[str, Served]) -> None:
    if missing(client):
        pytest.skip(f"{client} is missing: run tests/install-real-parts.sh")
    name, datatype, output, rows, expected = CASES[framework]
    address = f"127.0.0.1:{running[framework].port}"
    address = address if client == "tritonclient" else f"http://{address}"
    found = answers(client, address, "pipeline", name, datatype, output, json.dumps(rows))
    assert [found["live"], found["ready"], found["model ready"]] == [True, True, True]
    assert {way: found[way] for way in WAYS} == dict.fromkeys(WAYS, expected)
    if client == "tritonclient":
        assert found["server"] == ["binary_tensor_data"]
        assert found["inputs"][0] == {"name": name, "datatype": datatype, "shape": [-1, *_row(rows)]}
        assert found["wrong"][0] == "400"


def _row(rows: list[Any]) -> list[int]:
    return [len(rows[0])] if isinstance(rows[0], list) else []


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """A process for each of them; that of TensorFlow in the environment that has it."""
    keras = Keras(tmp_path_factory.mktemp("keras"))
    keras.close()
    specs = {
        name: served(StageSpec("sum", name, (), (), path=str(keras.folder / file), options=_options(name)))
        for name, file in SUMS.items()
    }
    elsewhere = specs["tensorflow"]
    assert elsewhere.serving
    folder = tmp_path_factory.mktemp("sums")
    env = tensorflow_env.environment() | {"CUDA_VISIBLE_DEVICES": ""}
    python = tensorflow_env.python()
    with (
        RunningSegment(elsewhere, folder / "tensorflow", python=python, env=env) as process,
        serving(folder / "tflite", specs["tflite"]) as light,
    ):
        process.until("ready")
        yield {"tflite": light, "tensorflow": Served(process, elsewhere.serving.port)}


def _options(framework: str) -> dict[str, Any]:
    return {"serializer": "h5"} if framework == "tensorflow" else {}


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.parametrize("framework", SUMS)
@pytest.mark.parametrize("client", ["tritonclient", "kserve"])
def test_a_foreign_client_gets_right_answers_of_what_keras_made(
    client: str, framework: str, sums: dict[str, Served]
) -> None:
    if missing(client):
        pytest.skip(f"{client} is missing: run tests/install-real-parts.sh")
    address = f"{'' if client == 'tritonclient' else 'http://'}127.0.0.1:{sums[framework].port}"
    rows = [[0.25, 0.5], [-0.5, 0.125], [1.0, -1.0]]
    found = answers(client, address, "pipeline", *_names(sums[framework].port), json.dumps(rows))
    for way in WAYS:
        assert np.array(found[way]).ravel() == pytest.approx([0.75, -0.375, 0.0], abs=0.01), way


def _names(port: int) -> tuple[str, str, str]:
    """Input, its datatype and output, as the model itself tells them."""
    with calling(port) as call:
        told = call.get("/v2/models/pipeline").json
    return told["inputs"][0]["name"], told["inputs"][0]["datatype"], told["outputs"][0]["name"]
