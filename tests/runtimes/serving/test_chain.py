"""The stages as a chain, without HTTP."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fogline.runtimes import registry
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import Failure
from fogline.runtimes.frameworks.signature import Declared, Signature
from fogline.runtimes.serving.chain import Answer, Chain
from fogline.runtimes.spec import SpecError, StageSpec
from fogline.runtimes.taps import Tap, Taps
from support.segments import code_stage, command, write_code
from support.served import code_served, onnx_stage, served, sklearn_stage, two_inputs_stage

BATCHES = """
calls = []

def handler(data):
    raise AssertionError("the batch form is there")

def handler_batch(records):
    calls.append(len(records))
    if "bad" in records:
        raise ValueError("a bad one is among them")
    return [len(calls) for _ in records]
"""


def chain(*stages: StageSpec, taps: Taps | None = None) -> tuple[Chain, Counters]:
    loaded = [(stage, registry.framework(stage, Path())) for stage in stages]
    for _, framework in loaded:
        framework.load()
    counters = Counters([stage.name for stage in stages])
    return Chain(loaded, counters, taps or Taps()), counters


def failed(answer: Answer) -> Failure:
    assert isinstance(answer, Failure)
    return answer


def test_a_batch_that_fails_together_is_tried_one_by_one_and_a_record_alone_only_once(tmp_path: Path) -> None:
    made, counters = chain(code_served(tmp_path, BATCHES))
    answers = made.run([b'"a"', b'"bad"', b'"b"'])
    assert [answers[0], answers[2]] == [[b"2"], [b"4"]]
    assert failed(answers[1]).reason == "ValueError: a bad one is among them"
    assert failed(answers[1]).refused is False
    assert failed(made.run([b'"bad"'])[0]).attempts == 1
    assert made.run([b'"c"']) == [[b"6"]]
    row = counters.snapshot()["code"]
    assert (row["in"], row["done"], row["dropped"], row["in_flight"]) == (5, 3, 2, 0)


def test_stages_of_one_process_are_one_chain(tmp_path: Path) -> None:
    source = "def handler(data):\n    return data['row'] if data else None\n"
    first = code_stage("prepare", write_code(tmp_path / "a", source), "", "prepare..double")
    second = dataclasses.replace(onnx_stage(tmp_path / "b"), inputs=("prepare..double",))
    taps = Taps()
    tap = Tap("prepare..double", 10)
    taps.add(tap)
    made, counters = chain(first, second, taps=taps)
    answers = made.run([b'{"row":[1,2,3]}', b"null", b'{"row":[1]}', b"{"])
    assert answers[:2] == [[b"[2.0,4.0,6.0]"], []]
    assert failed(answers[2]).stage == "double"
    assert failed(answers[2]).refused is True
    assert failed(answers[3]).reason.startswith("the message is not JSON")
    assert [counters.snapshot()["prepare"][key] for key in ("in", "done", "filtered", "dropped")] == [4, 2, 1, 1]
    assert [each["record"] for each in tap.take()] == [[1, 2, 3], [1]]


def test_what_is_no_chain_is_refused(tmp_path: Path) -> None:
    first = code_stage("a", write_code(tmp_path / "a", "def handler(data): return data"), "", "x y")
    second = dataclasses.replace(first, name="b", inputs=("x",), outputs=())
    with pytest.raises(SpecError, match="b does not read all that a writes"):
        chain(first, second)


ANY = Declared("", "FP64", (3,))


def test_what_models_say_of_their_records(tmp_path: Path) -> None:
    def signature(stage: StageSpec) -> Signature | None:
        return chain(stage)[0].first.signature()

    doubled = (Declared("doubled", "FP32", (3,)),)
    assert signature(sklearn_stage(tmp_path)) == Signature((ANY,), (Declared("predict", "INT64", ()),))
    proba = signature(sklearn_stage(tmp_path, method="predict_proba", input="x"))
    assert proba == Signature((Declared("x", "FP64", (3,)),), (Declared("predict_proba", "FP64", (2,)),), (), True)
    fields = signature(sklearn_stage(tmp_path, input=["a", "b", "c"], output="score"))
    assert fields == Signature(tuple(Declared(name, "FP64", ()) for name in "abc"), (), (), True)
    assert signature(onnx_stage(tmp_path)) == Signature((Declared("x", "FP32", (3,)),), doubled)
    inputs = (Declared("a", "FP32", (2,)), Declared("b", "INT64", ()))
    outputs = (Declared("minus", "FP32", (2,)), Declared("twice", "INT64", ()))
    assert signature(two_inputs_stage(tmp_path)) == Signature(inputs, outputs, (), True)
    assert signature(code_served(tmp_path)) is None


@pytest.mark.e2e
def test_check_and_test_know_served_segments(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(served(onnx_stage(tmp_path)).to_bytes())
    assert json.loads(command("check", path, "--artifacts", tmp_path).stdout)["ok"] is True
    assert command("test", path, stdin=b"[1,2,3]\n").stdout == b"[2.0,4.0,6.0]\n"
    path.write_bytes(served(onnx_stage(tmp_path), token_secret="absent").to_bytes())
    refused = command("check", path, "--artifacts", tmp_path)
    assert refused.returncode == 64
    assert "absent" in json.loads(refused.stdout)["reason"]


def test_a_segment_of_queues_loads_nothing_of_it() -> None:
    code = "import fogline.runtimes.__main__, sys; print({'asyncio', 'uvicorn', 'uvloop'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "set()\n"
