"""What callers get from real processes: models and code behind `/predict` and the Open Inference Protocol."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from support.served import Caller, Served, calling, fitted, tensor

pytestmark = pytest.mark.e2e

INFER = "/v2/models/pipeline/infer"


@pytest.fixture
def call(running: dict[str, Served], request: pytest.FixtureRequest) -> Iterator[Caller]:
    """A caller of the model that the test is parametrized with."""
    with calling(running[request.param].port) as caller:
        yield caller


on = pytest.mark.parametrize


@on("call", ["sklearn"], indirect=True)
def test_one_record_or_a_list_of_them(call: Caller) -> None:
    assert call.predict([1, 1, 1]).body == b"1"
    assert call.predict([[1, 1, 1], [-1, -1, 0.5]]).json == [1, 0]
    assert call.predict([]).json == []


@on("call", ["code"], indirect=True)
def test_code_reads_any_json_and_may_answer_nothing_or_more(call: Caller) -> None:
    assert call.predict({"a": [1]}).json == {"got": {"a": [1]}}
    nothing = call.predict("none")
    assert (nothing.status, nothing.body) == (204, b"")
    assert call.predict("many").json == [1, 2]
    assert call.predict([1, "none", "many"]).json == [{"got": 1}, None, [1, 2]]


@on("call", ["sklearn"], indirect=True)
def test_infer_in_json(call: Caller) -> None:
    rows: list[list[float]] = [[1, 1, 1], [-1, -1, -1]]
    flat = [value for row in rows for value in row]
    data: list[Any]
    for data in (rows, flat):
        reply = call.infer(tensor("anything", "FP32", [2, 3], data), id="7")
        assert reply.json == {
            "model_name": "pipeline",
            "id": "7",
            "outputs": [{"name": "predict", "shape": [2], "datatype": "INT64", "data": [1, 0]}],
        }
    assert call.post("/v2/models/classify/infer", {"inputs": [tensor("x", "FP64", [1, 3], [1, 2, 3])]}).status == 200


def _binary(caller: Caller, head: dict[str, Any], data: bytes, path: str = INFER) -> tuple[dict[str, Any], bytes]:
    encoded = json.dumps(head).encode()
    length = str(len(encoded))
    reply = caller.ask("POST", path, encoded + data, Inference_Header_Content_Length=length)
    assert reply.status == 200, reply
    end = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    return json.loads(reply.body[:end]), reply.body[end:]


@on("call", ["two"], indirect=True)
def test_infer_in_binary_both_ways(call: Caller) -> None:
    a, b = np.array([[1, 2], [3, 4]], "<f4"), np.array([5, -6], "<i8")
    inputs = [
        {"name": "a", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
        {"name": "b", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}},
    ]
    outputs = [{"name": "twice", "parameters": {"binary_data": True}}, {"name": "minus"}]
    head, data = _binary(call, {"inputs": inputs, "outputs": outputs}, a.tobytes() + b.tobytes())
    assert head["outputs"] == [
        {"name": "twice", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}},
        {"name": "minus", "shape": [2, 2], "datatype": "FP32", "data": [-1.0, -2.0, -3.0, -4.0]},
    ]
    assert struct.unpack("<2q", data) == (10, -12)
    head, data = _binary(
        call, {"inputs": inputs, "parameters": {"binary_data_output": True}}, a.tobytes() + b.tobytes()
    )
    assert [each["name"] for each in head["outputs"]] == ["minus", "twice"]
    assert np.frombuffer(data[:16], "<f4").tolist() == [-1, -2, -3, -4]


@on("call", ["code"], indirect=True)
def test_code_reads_and_answers_one_tensor_of_json(call: Caller) -> None:
    reply = call.infer(tensor("input", "BYTES", [3, 1], ['{"a":1}', '"none"', '"many"']))
    (output,) = reply.json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [3])
    assert [json.loads(each) for each in output["data"]] == [{"got": {"a": 1}}, None, [1, 2]]
    strings = b"".join(struct.pack("<I", len(each)) + each for each in (b"1", b'"x"'))
    given = {"name": "i", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(strings)}}
    head, data = _binary(call, {"inputs": [given], "parameters": {"binary_data_output": True}}, strings)
    assert head["outputs"][0]["parameters"] == {"binary_data_size": len(data)}
    assert data == b'\x09\0\0\0{"got":1}' + b'\x0b\0\0\0{"got":"x"}'


@on("call", ["two"], indirect=True)
def test_a_record_of_several_inputs_is_an_object(call: Caller) -> None:
    assert call.predict({"a": [1, 2], "b": 3}).json == {"minus": [-1.0, -2.0], "twice": 6}
    assert call.predict([{"a": [1, 2], "b": 3}, {"a": [0, 0], "b": 0}]).json[1] == {"minus": [0.0, 0.0], "twice": 0}


@on("call", ["onnx"], indirect=True)
def test_metadata_and_health(call: Caller) -> None:
    metadata = {
        "name": "pipeline",
        "versions": [],
        "platform": "fogline_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "doubled", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert call.get("/v2/models/pipeline").json == call.get("/v2/models/double").json == metadata
    assert call.get("/v2").json["extensions"] == ["binary_tensor_data"]
    assert call.get("/v2/health/live").json == {"live": True}
    assert call.get("/v2/health/ready").json == {"ready": True}
    assert call.get("/v2/models/pipeline/ready").json == {"name": "pipeline", "ready": True}
    assert call.get("/health").json == {"state": "ready"}
    head = call.ask("HEAD", "/health")
    assert (head.status, head.body) == (200, b"")
    assert call.get("/health").status == 200  # on the same connection


@on("call", ["onnx"], indirect=True)
def test_paths_methods_and_versions_that_are_not_there(call: Caller) -> None:
    assert "nothing at this path" in call.get("/v3").error
    assert "no model 'other': it is 'pipeline'" in call.get("/v2/models/other").error
    assert "no version '1'" in call.get("/v2/models/pipeline/versions/1").error
    wrong = call.get("/predict")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_the_version_is_the_revision_that_it_was_told(running: dict[str, Served]) -> None:
    with calling(running["onnx"].port) as call:
        assert running["onnx"].process.ask("routes", revision=3)["ok"] is True
        assert call.get("/v2/models/pipeline/versions/3").json["versions"] == ["3"]
        assert call.get("/v2/models/pipeline/versions/3/ready").status == 200
        reply = call.post("/v2/models/pipeline/versions/3/infer", {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]})
        assert reply.json["model_version"] == "3"
        assert call.get("/v2/models/pipeline/versions/2").status == 404
        running["onnx"].process.ask("routes", revision="")


@on("call", ["code"], indirect=True)
def test_a_failing_record_harms_nobody_else_and_says_whose_fault_it_is(
    call: Caller, running: dict[str, Served]
) -> None:
    failed = call.predict("broken")
    assert failed.status == 500
    assert "stage code failed: KeyError: 'the sensor'" in failed.error
    assert "Traceback" not in failed.error
    assert call.predict([1, "broken"]).error.startswith("record 1: stage code failed")
    assert call.predict("nan").status == 400
    assert "main.py" in running["code"].process.log()
    before = running["code"].process.counters("code")
    call.predict("broken")
    after = running["code"].process.counters("code")
    assert after["dropped"] == before["dropped"] + 1
    assert after["in"] == after["done"] + after["filtered"] + after["dropped"]
    assert not (running["code"].process.folder / "dead-letters.db").exists()


def test_many_clients_get_their_own_answers(running: dict[str, Served]) -> None:
    model, wrong = fitted(), list[Any]()

    def work(seed: int) -> None:
        rows = np.round(np.random.default_rng(seed).normal(size=(40, 3)), 3)
        expected = model.predict(rows).tolist()
        with calling(running["sklearn"].port) as call:
            for row, answer in zip(rows.tolist(), expected, strict=True):
                if seed % 5 == 0:
                    reply = call.predict([*row[:2], None])
                    ok = reply.status == 400 and "got" in reply.error
                else:
                    ok = call.predict(row).json == answer
                if not ok:
                    wrong.append((seed, row))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


@on("call", ["sklearn"], indirect=True)
def test_metrics_count_what_happened(call: Caller) -> None:
    call.predict([1, 2, 3])
    call.predict([1])
    reply = call.get("/metrics")
    lines = dict(line.rsplit(" ", 1) for line in reply.body.decode().splitlines() if not line.startswith("#"))
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert float(lines['fogline_requests_total{route="predict",status="200"}']) >= 1
    assert float(lines['fogline_requests_total{route="predict",status="400"}']) >= 1
    assert float(lines['fogline_stage_records_total{stage="classify",outcome="failed"}']) >= 1
    assert lines["fogline_ready"] == "1"


@on("call", ["sklearn"], indirect=True)
def test_the_page_shows_a_record_to_try(call: Caller) -> None:
    reply = call.get("/")
    assert "[0, 0, 0]" in reply.body.decode()
    assert "default-src 'none'" in reply.headers["content-security-policy"]
