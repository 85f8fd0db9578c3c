"""ONNX models by onnxruntime, always on the whole batch where the model's input allows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fogline.runtimes.frameworks.signature import Tensor
from fogline.runtimes.frameworks.tensor_model import Schema, TensorModel

_DATATYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


class OnnxModel(TensorModel):
    """Inputs, types and names come from the model."""

    extra = "onnx"

    def import_library(self) -> None:
        import onnxruntime

        self._library = onnxruntime

    def read_model(self) -> Schema:
        settings = self._library.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        file = str(self._in_folder() if self.path.is_dir() else self.model_file)
        try:
            self._session = self._library.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self.not_ours("an ONNX model", error) from error
        inputs = self._session.get_inputs()
        for each in inputs:
            if each.type not in _DATATYPES:
                raise self.unusable(f"input {each.name!r} is {each.type}, which is not supported")
        return [_tensor(each) for each in inputs], [_tensor(each) for each in self._session.get_outputs()]

    def run(self, feed: dict[str, Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = self._session.run(None, feed)
        return outputs

    def _in_folder(self) -> Path:
        """The model of a folder, whose other files are its weights."""
        found = sorted(self.path.glob("*.onnx"))
        if len(found) != 1:
            names = ", ".join(each.name for each in found) or "none"
            raise self.not_ours("the folder of one ONNX model", ValueError(f"its .onnx files are: {names}"))
        return found[0]

    def brief(self, error: BaseException) -> str:
        """onnxruntime's message without its leading code."""
        return " ".join(str(error).split()).rsplit(" : ", 1)[-1][:300]


def _tensor(described: Any) -> Tensor:
    sizes = tuple(size if isinstance(size, int) else None for size in described.shape or ())
    return Tensor(described.name, _DATATYPES.get(described.type, ""), sizes)
