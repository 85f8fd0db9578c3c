"""What is wrong with a request is told in words, with a status of the caller's, and the process goes on."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from support.served import (
    Caller,
    calling,
    code_served,
    onnx_stage,
    served,
    serving,
    sklearn_stage,
    tensor,
    two_inputs_stage,
)

pytestmark = pytest.mark.e2e

LIMIT = 64 * 1024
GOOD = tensor("x", "FP32", [1, 3], [1, 2, 3])


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Caller]]:
    """One process and one connection each, which all bad requests must leave as they were."""
    folder = tmp_path_factory.mktemp("bad")
    onnx, two = onnx_stage(folder / "a"), two_inputs_stage(folder / "b")
    named = sklearn_stage(folder / "c", input=["a", "b", "c"])
    code = code_served(folder / "d")
    specs = {
        name: served(stage, limit_bytes=LIMIT) for name, stage in zip("otnc", (onnx, two, named, code), strict=True)
    }
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serving(folder / f"{name}-w", spec)).port for name, spec in specs.items()]
        yield {name: stack.enter_context(calling(port)) for name, port in zip(specs, ports, strict=True)}


PREDICT: list[tuple[str, Any, str]] = [
    ("o", b"", "the body is empty"),
    ("o", b"[1,2", "not JSON"),
    ("o", b"[1,2,NaN]", "not JSON"),
    ("o", b"\xff\xfe", "not JSON"),
    ("o", b"[" * 50_000, "not JSON"),
    ("o", b'{"x":' * 3000, "not JSON"),
    ("o", [1, 2], "input 'x': expected a number each, shape [3], got shape [2]"),
    ("o", [1, 2, "3"], "input 'x': expected a number each"),
    ("o", [1, 2, None], "input 'x': expected a number each"),
    ("o", [1, 2, 1e300], "a number that float32 cannot hold"),
    ("o", {"y": [1, 2, 3]}, "input 'x' is missing; the record has 'y'"),
    ("o", [[1, 2, 3], [1, 2]], "record 1: stage double: input 'x'"),
    ("o", "text", "input 'x': expected a number each"),
    ("o", b"null", "input 'x': expected a number each"),
    ("t", {"a": [1, 2]}, "input 'b' is missing"),
    ("t", {"a": [1, 2], "b": 1.5}, "input 'b': expected a whole number, got a number that is not whole"),
    ("t", [1, 2], "expected an object with the inputs 'a', 'b'"),
    ("n", {"a": 1, "b": 2}, "input 'c' is missing; the record has 'a', 'b'"),
    ("n", {"a": 1, "b": 2, "c": "x"}, "the model refused the record"),
    ("c", b"{'a': 1}", "not JSON"),
]


@pytest.mark.parametrize(("name", "body", "words"), PREDICT)
def test_a_bad_record(callers: dict[str, Caller], name: str, body: Any, words: str) -> None:
    reply = callers[name].predict(body)
    assert reply.status == 400
    assert words in reply.error


def _inputs(**changes: Any) -> Any:
    return {"inputs": [GOOD | changes]}


INFER: list[tuple[str, Any, str]] = [
    ("o", [], "an object with the list inputs"),
    ("o", {}, "inputs must be a list"),
    ("o", {"inputs": []}, "inputs must be a list"),
    ("o", {"inputs": [7]}, "inputs must be a list"),
    ("o", _inputs(name=7), "each input needs a name"),
    ("o", _inputs(datatype="FP31"), "datatype must be one of BOOL, "),
    ("o", _inputs(datatype=["FP32"]), "datatype must be one of BOOL, "),
    ("o", _inputs(shape=[]), "shape must be a list of sizes"),
    ("o", _inputs(shape=[0, 3], data=[]), "shape must be a list of sizes, each at least 1"),
    ("o", _inputs(shape=[-1, 3]), "shape must be a list of sizes"),
    ("o", _inputs(shape=[1000000000, 1000000000]), "has 1000000000000000000 values, data has 3"),
    ("o", _inputs(shape=[2, 3]), "shape [2, 3] has 6 values, data has 3"),
    ("o", _inputs(shape=[1, 2], data=[1, 2]), "expected a number each, shape [3], got shape [2]"),
    ("o", _inputs(data=None), "data must be a list"),
    ("o", _inputs(data=[1, [2], 3]), "expected numbers for FP32, got [2] at 1"),
    ("o", _inputs(data=[[1, 2], 3]), "data is nested unevenly"),
    ("o", _inputs(data=[1, "2", 3]), "expected numbers for FP32, got '2' at 1"),
    ("o", _inputs(data=[1, None, 3]), "expected numbers for FP32, got null at 1"),
    ("o", _inputs(datatype="INT8", data=[1, 2, 300]), "a number that INT8 cannot hold"),
    ("o", _inputs(datatype="BYTES", data=["a", "b", "c"]), "input 'x': expected a number each"),
    ("o", _inputs(name="y"), "input 'y' is unknown: the model reads 'x'"),
    ("o", {"inputs": [GOOD, GOOD]}, "twice: the model reads 'x'"),
    ("o", _inputs() | {"outputs": [{"name": "z"}]}, "no output 'z': the model answers with doubled"),
    ("o", _inputs() | {"outputs": [{}]}, "each of outputs needs a name"),
    ("o", _inputs() | {"outputs": 7}, "outputs must be a list"),
    ("o", _inputs() | {"parameters": 7}, "parameters must be an object"),
    ("o", _inputs() | {"id": 7}, "id must be a string"),
    ("o", _inputs(parameters={"binary_data_size": 12}), "binary_data_size is 12, 0 bytes are left"),
    ("t", {"inputs": [tensor("a", "FP32", [1, 2], [1, 2])]}, "input 'b' is missing: the model reads 'a', 'b'"),
    (
        "t",
        {"inputs": [tensor("a", "FP32", [1, 2], [1, 2]), tensor("b", "INT64", [2], [1, 2])]},
        "different numbers of rows: 'a': 1, 'b': 2",
    ),
    ("c", _inputs(), "one tensor of BYTES"),
    ("c", _inputs(datatype="BYTES", shape=[1], data=["{"]), "not JSON"),
]


@pytest.mark.parametrize(("name", "document", "words"), INFER)
def test_a_bad_tensor(callers: dict[str, Caller], name: str, document: Any, words: str) -> None:
    reply = callers[name].post("/v2/models/pipeline/infer", document)
    assert reply.status == 400
    assert words in reply.error


BINARY: list[tuple[dict[str, Any], bytes, str | None, str]] = [
    ({}, struct.pack("<2f", 1, 2), None, "binary_data_size is 12, 8 bytes are left"),
    (
        {"parameters": {"binary_data_size": 8}},
        bytes(8),
        None,
        "shape [1, 3] of FP32 takes 12 bytes, binary_data_size is 8",
    ),
    ({}, bytes(16), None, "4 bytes of binary data belong to no input"),
    ({}, struct.pack("<3f", 1, float("nan"), 2), None, "record 0: input 'x': expected a number, got nan"),
    ({}, bytes(12), "9999", "Inference-Header-Content-Length is 9999, the body has"),
    ({}, bytes(12), "-1", "must be a number of bytes"),
    ({}, bytes(12), "10", "not JSON"),
    ({"datatype": "BYTES"}, b"\x09\0\0\0abcdefgh", None, "its binary data ends within the string 0"),
    ({"datatype": "BYTES"}, b"\0\0\0\0" * 2 + b"\x01\0\0", None, "binary_data_size is 12, 11 bytes are left"),
    ({"datatype": "BYTES"}, b"\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None, "the string 0 is not UTF-8"),
]


@pytest.mark.parametrize(("changes", "data", "length", "words"), BINARY)
def test_bad_binary_data(
    callers: dict[str, Caller], changes: dict[str, Any], data: bytes, length: str | None, words: str
) -> None:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}} | changes
    head = json.dumps({"inputs": [given]}).encode()
    path, length = "/v2/models/pipeline/infer", length or str(len(head))
    reply = callers["o"].ask("POST", path, head + data, Inference_Header_Content_Length=length)
    assert reply.status == 400
    assert words in reply.error


def test_the_wrong_type_of_body(callers: dict[str, Caller]) -> None:
    for path in ("/predict", "/v2/models/pipeline/infer"):
        for type_ in ("text/plain", "application/x-www-form-urlencoded", ""):
            reply = callers["o"].post(path, [1, 2, 3], Content_Type=type_)
            assert reply.status == 415
            assert "Content-Type: application/json" in reply.error
        assert callers["o"].post(path, b"x", Content_Encoding="gzip").status == 415
    assert callers["o"].predict([1, 2, 3], Content_Type="Application/JSON; charset=utf-8").status == 200


def test_a_body_or_a_record_that_is_too_large(callers: dict[str, Caller]) -> None:
    for body in (b" " * (LIMIT + 1), b" " * (LIMIT * 40)):
        with calling(callers["o"].port) as call:
            reply = call.predict(body)
            assert (reply.status, reply.headers["connection"]) == (413, "close")
            assert f"larger than {LIMIT} bytes" in reply.error
    assert callers["o"].predict(b" " * (LIMIT - 9) + b"[1,2,3]").status == 200


def test_they_all_still_answer(callers: dict[str, Caller]) -> None:
    assert callers["o"].predict([1, 2, 3]).json == [2, 4, 6]
    assert callers["t"].predict({"a": [1, 2], "b": 3}).status == 200
    assert callers["n"].predict({"a": 1, "b": 2, "c": 3}).json == 1
    assert callers["c"].predict("x").json == {"got": "x"}
