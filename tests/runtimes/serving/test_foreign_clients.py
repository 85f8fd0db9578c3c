"""Clients of other inference servers, unchanged, each from its own environment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.clients import answers, missing
from support.served import Served

CASES: dict[str, tuple[str, str, str, list[Any], list[Any]]] = {
    "sklearn": ("input", "FP64", "predict", [[1, 1, 1], [-1, -1, -1]], [1, 0]),
    "onnx": ("x", "FP32", "doubled", [[1, 2, 3], [0.5, 0, -1]], [[2, 4, 6], [1, 0, -2]]),
    "code": ("input", "BYTES", "output", ['{"a": 1}', '"none"'], ['{"got":{"a":1}}', "null"]),
}
"""Framework -> name of the input, its datatype, name of the output, rows, answers."""
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
