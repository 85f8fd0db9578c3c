"""Models behind HTTP: what to serve, and a caller that speaks plain HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from fogline.runtimes.spec import BatchSpec, SegmentSpec, ServingSpec, StageSpec
from support.mosquitto import free_port
from support.segments import DEADLINE_S, RunningSegment, code_stage, write_code

JSON_TYPE = {"Content-Type": "application/json"}

CODE = """
import time

def handler(data):
    if data == "none":
        return None
    if data == "many":
        return iter_(data)
    if isinstance(data, dict) and "sleep_s" in data:
        time.sleep(data["sleep_s"])
    if data == "broken":
        raise KeyError("the sensor")
    if data == "nan":
        return float("nan")
    return {"got": data}

def iter_(data):
    yield 1
    yield 2
"""


def fitted() -> Any:
    """A classifier of three numbers: 1 where they add up to more than 0."""
    rows = np.random.default_rng(1).normal(size=(200, 3))
    return LogisticRegression().fit(rows, (rows.sum(axis=1) > 0).astype(np.int64))


def sklearn_stage(folder: Path, **options: Any) -> StageSpec:
    """That classifier as a stage."""
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(fitted(), folder / "model.joblib")
    return StageSpec("classify", "sklearn", (), (), path=str(folder / "model.joblib"), options=options)


def onnx_stage(folder: Path, **options: Any) -> StageSpec:
    """Three numbers, doubled."""
    node = helper.make_node("Add", ["x", "x"], ["doubled"])
    return _saved(
        folder, [node], [_value("x", TensorProto.FLOAT, 3)], [_value("doubled", TensorProto.FLOAT, 3)], options
    )


def two_inputs_stage(folder: Path) -> StageSpec:
    """Two inputs and two outputs of different types."""
    nodes = [helper.make_node("Neg", ["a"], ["minus"]), helper.make_node("Add", ["b", "b"], ["twice"])]
    inputs = [_value("a", TensorProto.FLOAT, 2), _value("b", TensorProto.INT64)]
    return _saved(
        folder, nodes, inputs, [_value("minus", TensorProto.FLOAT, 2), _value("twice", TensorProto.INT64)], {}
    )


def code_served(folder: Path, source: str = CODE) -> StageSpec:
    """A code stage that has no queues."""
    return code_stage("code", write_code(folder, source), "")


def served(*stages: StageSpec, batch: int = 256, **serving: Any) -> SegmentSpec:
    """A spec of a segment that answers requests at a free port of this machine."""
    spec = ServingSpec("127.0.0.1", free_port(), "pipeline", **serving)
    return SegmentSpec("pipeline", stages[0].name, "0", "a", "test", stages, batch=BatchSpec(batch), serving=spec)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a document."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence of a refusal."""
        assert self.status >= 400, self
        return str(self.json["error"])


class Caller:
    """One connection, kept open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Words of `headers` are joined by dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, named)
        response = self._connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, document: Any, **headers: str) -> Reply:
        """A document as JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.ask("POST", path, body, **({"Content_Type": "application/json"} | headers))

    def predict(self, document: Any, **headers: str) -> Reply:
        return self.post("/predict", document, **headers)

    def infer(self, *inputs: dict[str, Any], **more: Any) -> Reply:
        return self.post("/v2/models/pipeline/infer", {"inputs": list(inputs), **more})

    def close(self) -> None:
        self._connection.close()


@contextmanager
def calling(port: int) -> Iterator[Caller]:
    """A caller, closed at the end."""
    caller = Caller(port)
    try:
        yield caller
    finally:
        caller.close()


@dataclass(frozen=True)
class Served:
    """A running segment and where it listens."""

    process: RunningSegment
    port: int


@contextmanager
def serving(folder: Path, spec: SegmentSpec) -> Iterator[Served]:
    """The segment as a real process, ready."""
    assert spec.serving is not None
    with RunningSegment(spec, folder) as process:
        process.until("ready")
        yield Served(process, spec.serving.port)


@contextmanager
def serving_all(folder: Path, specs: dict[str, SegmentSpec]) -> Iterator[dict[str, Served]]:
    """Several at once: they load at the same time."""
    with contextlib.ExitStack() as stack:
        running = {
            name: Served(stack.enter_context(RunningSegment(spec, folder / name)), spec.serving.port)
            for name, spec in specs.items()
            if spec.serving is not None
        }
        for each in running.values():
            each.process.until("ready")
        yield running


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """One input of `infer`."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _value(name: str, kind: int, *sizes: int) -> Any:
    return helper.make_tensor_value_info(name, kind, ["n", *sizes])


def _saved(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], options: dict[str, Any]) -> StageSpec:
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return StageSpec("double", "onnx", (), (), path=str(folder / "model.onnx"), options=options)
