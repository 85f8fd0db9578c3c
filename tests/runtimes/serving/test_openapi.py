"""The document says what is true: fuzzed from outside in a short form (`make fuzz` is the long one), read inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from support.clients import missing
from support.schemathesis import verdict
from support.served import Served, calling, code_served, served, serving

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Code that fails at nothing."""
    folder = tmp_path_factory.mktemp("echo")
    with serving(folder / "w", served(code_served(folder, "def handler(data):\n    return data\n"))) as running:
        yield running


@pytest.mark.parametrize("framework", ["named", "onnx", "code"])
def test_fuzzed_by_schemathesis(framework: str, running: dict[str, Served], echo: Served) -> None:
    if missing("schemathesis"):
        pytest.skip("schemathesis is missing: run tests/install-real-parts.sh")
    port = echo.port if framework == "code" else running[framework].port
    found = verdict(framework, port, 12, 50)
    assert found.passed, found.report
    assert found.cases > 100


RECORDS: dict[str, tuple[list[Any], list[Any]]] = {
    "sklearn": ([[1, 2, 3], [[1, 2, 3]], []], [[1, 2], "x", {"a": 1}]),
    "named": ([{"a": 1, "b": 2, "c": 3}, [{"a": 1, "b": 2, "c": 3}]], [{"a": 1, "b": 2}, [1, 2, 3]]),
    "onnx": ([[1, 2, 3]], [[1, 2, 1e39], 7]),
    "two": ([{"a": [1, 2], "b": 3}], [{"a": [1], "b": 3}, {"a": [1, 2], "b": 1.5}]),
}
"""Framework -> bodies of `/predict` that are right, and wrong ones."""


@pytest.mark.parametrize("framework", RECORDS)
def test_the_schema_and_the_model_agree(framework: str, running: dict[str, Served]) -> None:
    right, wrong = RECORDS[framework]
    with calling(running[framework].port) as call:
        document = call.get("/openapi.json").json
        schema = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        judge = jsonschema.Draft202012Validator(schema | {"components": document["components"]})
        assert [(judge.is_valid(each), call.predict(each).status) for each in right] == [(True, 200)] * len(right)
        assert [(judge.is_valid(each), call.predict(each).status) for each in wrong] == [(False, 400)] * len(wrong)


def test_infer_as_the_document_describes_it(running: dict[str, Served]) -> None:
    with calling(running["two"].port) as call:
        schemas = call.get("/openapi.json").json["components"]["schemas"]
        inputs = [
            {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]},
            {"name": "b", "shape": [1], "datatype": "INT64", "data": [3.0]},
        ]
        jsonschema.validate({"inputs": inputs}, schemas["InferenceRequest"])
        reply = call.infer(*inputs)
        assert reply.status == 200
        jsonschema.validate(reply.json, schemas["InferenceResponse"])
