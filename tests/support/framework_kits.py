"""A real model of each framework and format, and a stage of it, for the framework kit.

Each adds up the two numbers of `x`; `fixed` ones take one record at a time.
"""

from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression

from fogline.runtimes import registry
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.spec import StageSpec
from support import tensorflow_env
from support.framework_process import FrameworkProcess, Remote

TRAINING_S = 120.0


class Keras:
    """Models trained by Keras, and a process that has TensorFlow: made once for the whole run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._python, self._environment = tensorflow_env.python(), tensorflow_env.environment()
        command = [str(self._python), "-m", "support.keras_models", str(folder)]
        environment = self._environment | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=TRAINING_S, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        self._process: FrameworkProcess | None = None

    @property
    def process(self) -> FrameworkProcess:
        if self._process is None:
            self._process = FrameworkProcess(self._python, self._environment, self.folder / "log")
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.__exit__(None, None, None)


@dataclass(frozen=True)
class Kit:
    """How a model of one format comes to be, and what its stage is told."""

    framework: str
    model: str
    """Name of the file or folder; those of Keras are made by support/keras_models.py."""
    save: Callable[[Path], None] | None = None
    """Trains and saves the model; None: Keras does."""
    options: dict[str, Any] = field(default_factory=dict)
    batched: bool = True
    module: str = ""
    """What the plugin imports, where the tests' environment has it; empty: it runs in a process that has it."""
    tolerance: float = 1e-3
    """Of an answer; int8 models are coarse."""
    nested: bool = True
    """The answer is a list of one number: the model answers a matrix."""

    def put(self, folder: Path, keras: Keras | None) -> Path:
        """Where the model lies, once it is there."""
        path = folder / self.model
        if self.save:
            self.save(path)
        else:
            assert keras
            made = keras.folder / self.model
            _ = shutil.copytree(made, path) if made.is_dir() else shutil.copyfile(made, path)
        return path

    def stage(self, path: Path, keras: Keras | None, **options: Any) -> Framework:
        """The plugin of the model, not loaded yet."""
        spec = StageSpec("s", self.framework, ("in",), ("out",), path=str(path), options=self.options | options)
        if self.module or keras is None:
            return registry.framework(spec, path.parent)
        return Remote(spec, path.parent, keras.process)


def _onnx(path: Path, batch: int | None) -> None:
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2])]
    ends.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch]))
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _linear() -> LinearRegression:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    return LinearRegression().fit(rows, rows.sum(axis=1))


def _keras(model: str, serializer: str) -> Kit:
    return Kit("tensorflow", model, options={"serializer": serializer})


KITS: dict[str, Kit] = {
    "onnx": Kit("onnx", "sum.onnx", lambda path: _onnx(path, None), module="onnxruntime", nested=False),
    "onnx of batch 1": Kit(
        "onnx", "one.onnx", lambda path: _onnx(path, 1), module="onnxruntime", nested=False, batched=False
    ),
    "joblib": Kit(
        "sklearn", "sum.joblib", lambda path: joblib.dump(_linear(), path), module="sklearn.exceptions", nested=False
    ),
    "compressed joblib": Kit(
        "sklearn",
        "small.joblib",
        lambda path: joblib.dump(_linear(), path, 3),
        module="sklearn.exceptions",
        nested=False,
    ),
    "pickle": Kit(
        "sklearn",
        "sum.pkl",
        lambda path: _ignored(path.write_bytes(pickle.dumps(_linear()))),
        {"serializer": "pickle"},
        module="sklearn.exceptions",
        nested=False,
    ),
    "tflite": Kit("tflite", "sum.tflite", module="ai_edge_litert.interpreter"),
    "tflite in int8": Kit("tflite", "int8.tflite", module="ai_edge_litert.interpreter", tolerance=0.1),
    "h5": _keras("sum.h5", "h5"),
    "keras": _keras("sum.keras", "keras"),
    "savedmodel": _keras("sum", "savedmodel"),
}
NEED_TENSORFLOW = frozenset(name for name, kit in KITS.items() if kit.save is None)


def _ignored(_: object) -> None:
    """For a lambda that is only there for what it does."""
