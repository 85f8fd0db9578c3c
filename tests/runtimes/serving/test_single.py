"""The quick way says what the general way says, or leaves it to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogline.runtimes.frameworks.base import Framework, Result
from fogline.runtimes.frameworks.signature import Declared, Signature
from fogline.runtimes.serving.chain import Answer
from fogline.runtimes.serving.inference import Inference, Reader, Writer
from fogline.runtimes.serving.refusals import Refusal
from fogline.runtimes.spec import StageSpec


class Described(Framework):
    """A model that is nothing but its signature."""

    def __init__(self, signature: Signature) -> None:
        super().__init__(StageSpec("m", "onnx", (), ()), Path())
        self._signature = signature

    def load(self) -> None: ...

    def process(self, records: list[Any]) -> list[Result]:
        return [[record] for record in records]

    def signature(self) -> Signature:
        return self._signature


FEATURES = Declared("x", "FP32", (3,))
SIGNATURES = [
    Signature((FEATURES,), (Declared("y", "INT64", ()),)),
    Signature((Declared("", "FP64", (3,)),), (Declared("predict", "BYTES", ()),)),
    Signature((FEATURES,), (), (), True),
    Signature((Declared("", "FP64", (3,)),), (), ("a", "b", "c")),
]

numbers = st.one_of(st.integers(-10, 10), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none())
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", "", "a", 1]),
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "X"]),
        "shape": st.sampled_from([[1, 3], [3], [1, 4], [True, 3], [1.0, 3], [3, 1]]),
        "data": st.one_of(st.lists(numbers, min_size=3, max_size=3), st.just([[1, 2, 3]]), st.just([1, 2])),
    },
    optional={"parameters": st.just({})},
)
documents = st.fixed_dictionaries({"inputs": st.lists(tensors, min_size=1, max_size=2)})


def said(reader: Reader, document: Any) -> Any:
    try:
        return reader.read(json.dumps(document).encode(), None)
    except Refusal as refusal:
        return refusal.reason


@pytest.mark.parametrize("signature", SIGNATURES)
@given(document=documents)
def test_a_request_is_read_the_same_way(signature: Signature, document: Any) -> None:
    """The general way is what an empty `parameters` leads to."""
    reader = Reader(Described(signature))
    assert said(reader, document) == said(reader, document | {"parameters": {}})


@pytest.mark.parametrize("signature", SIGNATURES)
def test_the_usual_request_of_each_model_is_read(signature: Signature) -> None:
    name = signature.inputs[0].name or "anything"
    document = {"inputs": [{"name": name, "datatype": "FP64", "shape": [1, 3], "data": [1, 2.5, 3]}]}
    (payload,) = said(Reader(Described(signature)), document).payloads
    assert json.loads(payload) == ({"x": [1, 2.5, 3]} if signature.only_object else [1, 2.5, 3])


ANSWERS: list[tuple[int, list[Answer]]] = [
    (0, [[b"1"]]),
    (0, [[b"1"], [b"-2"]]),
    (0, [[b"1"], []]),
    (1, [[b'"a"'], [b'"b"']]),
    (2, [[b'{"s":1}']]),
]


@pytest.mark.parametrize(("place", "answers"), ANSWERS)
@pytest.mark.parametrize("ident", ["", "7"])
def test_answers_are_written_the_same_way(place: int, answers: list[Answer], ident: str) -> None:
    """The general way is what asking for an output by name leads to."""
    writer, named = Writer(Described(SIGNATURES[place])), {"model_name": "m", "model_version": "3"}
    body, length = writer.write(Inference([], ident, (), False), answers, named)
    assert length == len(body)
    (output,) = json.loads(body)["outputs"]
    asked = Inference([], ident, ((output["name"], False),), False)
    assert json.loads(writer.write(asked, answers, named)[0]) == json.loads(body)
