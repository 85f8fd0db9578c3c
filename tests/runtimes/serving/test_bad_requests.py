"""What is wrong with a request is told in words, with a status of the caller's, and the process goes on."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from support.served import Caller, Served, calling, tensor

pytestmark = pytest.mark.e2e

LIMIT = 64 * 1024  # as the processes have it
GOOD = tensor("x", "FP32", [1, 3], [1, 2, 3])


@pytest.fixture(scope="module")
def callers(running: dict[str, Served]) -> Iterator[dict[str, Caller]]:
    """One connection each, which all bad requests must leave as they were."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(calling(each.port)) for name, each in running.items()}


PREDICT: list[tuple[str, Any, str]] = [
    ("onnx", b"", "the body is empty"),
    ("onnx", b"[1,2", "not JSON"),
    ("onnx", b"[1,2,NaN]", "not JSON"),
    ("onnx", b"\xff\xfe", "not JSON"),
    ("onnx", b"[" * 50_000, "not JSON"),
    ("onnx", b'{"x":' * 3000, "not JSON"),
    ("onnx", [1, 2], "input 'x': expected a number each, shape [3], got shape [2]"),
    ("onnx", [1, 2, "3"], "input 'x': expected a number each"),
    ("onnx", [1, 2, None], "input 'x': expected a number each"),
    ("onnx", [1, 2, 1e300], "a number that float32 cannot hold"),
    ("onnx", {"y": [1, 2, 3]}, "input 'x' is missing; the record has 'y'"),
    ("onnx", [[1, 2, 3], [1, 2]], "record 1: stage double: input 'x'"),
    ("onnx", "text", "input 'x': expected a number each"),
    ("onnx", b"null", "input 'x': expected a number each"),
    ("two", {"a": [1, 2]}, "input 'b' is missing"),
    ("two", {"a": [1, 2], "b": 1.5}, "input 'b': expected a whole number, got a number that is not whole"),
    ("two", [1, 2], "expected an object with the inputs 'a', 'b'"),
    ("named", {"a": 1, "b": 2}, "input 'c' is missing; the record has 'a', 'b'"),
    ("named", {"a": 1, "b": 2, "c": "x"}, "the model refused the record"),
    ("code", b"{'a': 1}", "not JSON"),
]


@pytest.mark.parametrize(("name", "body", "words"), PREDICT)
def test_a_bad_record(callers: dict[str, Caller], name: str, body: Any, words: str) -> None:
    reply = callers[name].predict(body)
    assert reply.status == 400
    assert words in reply.error


def _inputs(**changes: Any) -> Any:
    return {"inputs": [GOOD | changes]}


INFER: list[tuple[str, Any, str]] = [
    ("onnx", [], "an object with the list inputs"),
    ("onnx", {}, "inputs must be a list"),
    ("onnx", {"inputs": []}, "inputs must be a list"),
    ("onnx", {"inputs": [7]}, "inputs must be a list"),
    ("onnx", _inputs(name=7), "each input needs a name"),
    ("onnx", _inputs(datatype="FP31"), "datatype must be one of BOOL, "),
    ("onnx", _inputs(datatype=["FP32"]), "datatype must be one of BOOL, "),
    ("onnx", _inputs(shape=[]), "shape must be a list of sizes"),
    ("onnx", _inputs(shape=[0, 3], data=[]), "shape must be a list of sizes, each at least 1"),
    ("onnx", _inputs(shape=[-1, 3]), "shape must be a list of sizes"),
    ("onnx", _inputs(shape=[1000000000, 1000000000]), "has 1000000000000000000 values, data has 3"),
    ("onnx", _inputs(shape=[2, 3]), "shape [2, 3] has 6 values, data has 3"),
    ("onnx", _inputs(shape=[1, 2], data=[1, 2]), "expected a number each, shape [3], got shape [2]"),
    ("onnx", _inputs(data=None), "data must be a list"),
    ("onnx", _inputs(data=[1, [2], 3]), "expected numbers for FP32, got [2] at 1"),
    ("onnx", _inputs(data=[[1, 2], 3]), "data is nested unevenly"),
    ("onnx", _inputs(data=[1, "2", 3]), "expected numbers for FP32, got '2' at 1"),
    ("onnx", _inputs(data=[1, None, 3]), "expected numbers for FP32, got null at 1"),
    ("onnx", _inputs(datatype="INT8", data=[1, 2, 300]), "a number that INT8 cannot hold"),
    ("onnx", _inputs(datatype="BYTES", data=["a", "b", "c"]), "input 'x': expected a number each"),
    ("onnx", _inputs(name="y"), "input 'y' is unknown: the model reads 'x'"),
    ("onnx", {"inputs": [GOOD, GOOD]}, "twice: the model reads 'x'"),
    ("onnx", _inputs() | {"outputs": [{"name": "z"}]}, "no output 'z': the model answers with doubled"),
    ("onnx", _inputs() | {"outputs": [{}]}, "each of outputs needs a name"),
    ("onnx", _inputs() | {"outputs": 7}, "outputs must be a list"),
    ("onnx", _inputs() | {"parameters": 7}, "parameters must be an object"),
    ("onnx", _inputs() | {"id": 7}, "id must be a string"),
    ("onnx", _inputs(parameters={"binary_data_size": 12}), "binary_data_size is 12, 0 bytes are left"),
    ("two", {"inputs": [tensor("a", "FP32", [1, 2], [1, 2])]}, "input 'b' is missing: the model reads 'a', 'b'"),
    (
        "two",
        {"inputs": [tensor("a", "FP32", [1, 2], [1, 2]), tensor("b", "INT64", [2], [1, 2])]},
        "different numbers of rows: 'a': 1, 'b': 2",
    ),
    ("code", _inputs(), "one tensor of BYTES"),
    ("code", _inputs(datatype="BYTES", shape=[1], data=["{"]), "not JSON"),
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
    reply = callers["onnx"].ask("POST", path, head + data, Inference_Header_Content_Length=length)
    assert reply.status == 400
    assert words in reply.error


def test_the_wrong_type_of_body(callers: dict[str, Caller]) -> None:
    for path in ("/predict", "/v2/models/pipeline/infer"):
        for type_ in ("text/plain", "application/x-www-form-urlencoded", ""):
            reply = callers["onnx"].post(path, [1, 2, 3], Content_Type=type_)
            assert reply.status == 415
            assert "Content-Type: application/json" in reply.error
        assert callers["onnx"].post(path, b"x", Content_Encoding="gzip").status == 415
    assert callers["onnx"].ask("POST", "/predict", b"[1,2,3]", Origin="http://elsewhere").status == 415
    assert callers["onnx"].ask("POST", "/predict", b"[1,2,3]").status == 200
    assert callers["onnx"].predict([1, 2, 3], Content_Type="Application/JSON; charset=utf-8").status == 200


def test_a_body_or_a_record_that_is_too_large(callers: dict[str, Caller]) -> None:
    for body in (b" " * (LIMIT + 1), b" " * (LIMIT * 40)):
        with calling(callers["onnx"].port) as call:
            reply = call.predict(body)
            assert (reply.status, reply.headers["connection"]) == (413, "close")
            assert f"larger than {LIMIT} bytes" in reply.error
    assert callers["onnx"].predict(b" " * (LIMIT - 9) + b"[1,2,3]").status == 200


def test_a_caller_that_goes_on_sending_when_it_is_refused_still_gets_the_reply(callers: dict[str, Caller]) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", callers["onnx"].port), timeout=20) as sock:
        sock.sendall(head + b" " * (LIMIT + 1))
        select.select([sock], [], [], 20)
        for _ in range(20):
            sock.sendall(b" " * 10_000)
        assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_they_all_still_answer(callers: dict[str, Caller]) -> None:
    assert callers["onnx"].predict([1, 2, 3]).json == [2, 4, 6]
    assert callers["two"].predict({"a": [1, 2], "b": 3}).status == 200
    assert callers["named"].predict({"a": 1, "b": 2, "c": 3}).json == 1
    assert callers["code"].predict("x").json == {"got": "x"}
