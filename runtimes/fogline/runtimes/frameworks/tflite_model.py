"""TFLite models by ai-edge-litert, or by tflite-runtime where there is no wheel of that (32-bit ARM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fogline.runtimes.frameworks.signature import Tensor
from fogline.runtimes.frameworks.tensor_model import Schema, TensorModel

_SIGNATURE = "serving_default"


class TfliteModel(TensorModel):
    """Inputs and outputs go by the names of the model's signature, where it has one. Where they are quantised a
    record still holds, and an answer still is, the real numbers."""

    extra = "tflite"

    def import_library(self) -> None:
        import numpy as np

        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            try:
                from tflite_runtime.interpreter import Interpreter
            except ImportError:
                raise ImportError(str(error), name="ai-edge-litert") from error
        self._np, self._library = np, Interpreter

    def read_model(self) -> Schema:
        file = str(self.model_file)
        try:
            self._interpreter = self._library(model_path=file, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise self.not_ours("a TFLite model", error) from error
        self._inputs, self._outputs = self._details()
        self._shapes = {name: tuple(each["shape"].tolist()) for name, each in self._inputs.items()}
        schema = [_tensor(*each) for each in self._inputs.items()], [_tensor(*each) for each in self._outputs.items()]
        self._try_once()
        return schema

    def run(self, feed: dict[str, Any]) -> Sequence[Any]:
        self._resize({name: array.shape for name, array in feed.items()})
        for name, array in feed.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], self._quantised(array, self._inputs[name]))
        self._interpreter.invoke()
        return [self._real(self._interpreter.get_tensor(each["index"]), each) for each in self._outputs.values()]

    def _details(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Name -> description of every input and output, in the order of the signature."""
        inputs = {each["index"]: each for each in self._interpreter.get_input_details()}
        outputs = {each["index"]: each for each in self._interpreter.get_output_details()}
        known = self._interpreter.get_signature_list()
        if known:
            runner = self._interpreter.get_signature_runner(_SIGNATURE if _SIGNATURE in known else min(known))
            named, answers = runner.get_input_details(), runner.get_output_details()
            # One of another part of the model counts its tensors anew.
            if {each["index"] for each in named.values()} == set(inputs):
                return dict(named), dict(answers)
        return {each["name"]: each for each in inputs.values()}, {each["name"]: each for each in outputs.values()}

    def _try_once(self) -> None:
        """Some models that the converter made without a word cannot run at all."""
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise self.not_ours("a TFLite model", error) from error

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = {}
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def _quantised(self, array: Any, details: Any) -> Any:
        scale, zero = details["quantization"]
        if not scale or array.dtype == details["dtype"]:
            return array
        limits = self._np.iinfo(details["dtype"])
        whole = self._np.rint(array / scale + zero)
        return self._np.clip(whole, limits.min, limits.max).astype(details["dtype"])

    def _real(self, array: Any, details: Any) -> Any:
        scale, zero = details["quantization"]
        if not scale or array.dtype.kind == "f":
            return array
        return (array.astype(self._np.float32) - zero) * scale


def _tensor(name: str, details: Any) -> Tensor:
    sizes = details.get("shape_signature", details["shape"])
    shape = tuple(None if size < 0 else int(size) for size in sizes.tolist())
    quantised = bool(details["quantization"][0])
    kind = details["dtype"].__name__
    return Tensor(name, "float32" if quantised else "object" if kind.startswith("bytes") else kind, shape)
