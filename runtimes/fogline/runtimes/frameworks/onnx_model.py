"""ONNX models by onnxruntime, always on the whole batch where the model's input allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fogline.runtimes.errors import BadMessage
from fogline.runtimes.frameworks import rows
from fogline.runtimes.frameworks.base import Failed, Framework, Result, Signature, Tensor

CHUNK = 256
"""Most records in one call: bounds the memory of a batch, and past it no model here grew faster."""

_DTYPES = {
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
_DATATYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "object": "BYTES"}
"""In the words of the Open Inference Protocol; of the others the name itself in capitals."""


class OnnxModel(Framework):
    """Inputs, types and names come from the model. The first dimension of an input is the batch when it
    is free; when it is 1, records run one by one; when it is any other number, a record is the whole input."""

    def load(self) -> None:
        try:
            import numpy as np
            import onnxruntime as ort

            from fogline.runtimes.frameworks.tensors import Column
        except ImportError as error:
            raise self.unusable(f"needs {error.name}, which is not installed here: fogline[onnx]") from error
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        if not self.path.is_file():
            raise self.unusable(f"there is no model file {self.path}")
        try:
            self._session = ort.InferenceSession(str(self.path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self.unusable(f"{self.path.name} is not an ONNX model this node can run: {_brief(error)}") from error
        self._np = np
        inputs = self._session.get_inputs()
        for each in inputs:
            if each.type not in _DTYPES:
                raise self.unusable(f"input {each.name!r} is {each.type}, which is not supported")
        self._batched = all(_free(each.shape) for each in inputs)
        self._added_axis = all(_free(each.shape) or each.shape[0] == 1 for each in inputs)
        self._columns = [
            Column(each.name, np.dtype(_DTYPES[each.type]), self._row_shape(each.shape)) for each in inputs
        ]
        self._outputs = [each.name for each in self._session.get_outputs()]
        self._answer_tensors = [self._tensor(each) for each in self._session.get_outputs()]
        options = self.stage.options
        self._read = rows.reader(options.get("input"), [each.name for each in inputs])
        self._output = options.get("output")

    def signature(self) -> Signature | None:
        """As the file declares it; outputs that are no tensors are known only from an answer."""
        inputs = [_tensor(each.name, each.dtype.name, each.shape) for each in self._columns]
        outputs = [each for each in self._answer_tensors if each is not None]
        known = outputs if len(outputs) == len(self._answer_tensors) else ()
        return rows.signature(self.stage.options, inputs, known)

    def process(self, records: list[Any]) -> list[Result]:
        run: Callable[[list[Any]], list[Any]] = self._run_chunk if self._batched else self._one_by_one
        answers = rows.in_chunks(records, self._read, run, CHUNK)
        return rows.place(records, answers, self._output)

    def _run_chunk(self, chunk: list[Any]) -> list[Any]:
        """The whole chunk at once; when it does not stack or the model refuses it, each row alone."""
        try:
            feed = self._feed(chunk)
        except BadMessage as error:
            return self._one_by_one(chunk) if len(chunk) > 1 else [Failed(error)]
        try:
            return self._answers(feed, len(chunk))
        except Exception as error:  # noqa: BLE001 - onnxruntime has a dozen classes of its own
            if len(chunk) > 1:
                return self._one_by_one(chunk)
            return [Failed(BadMessage(f"the model refused the record: {_brief(error)}"))]

    def _one_by_one(self, chunk: list[Any]) -> list[Any]:
        return [answer for row in chunk for answer in self._run_chunk([row])]

    def _feed(self, chunk: list[Any]) -> dict[str, Any]:
        if len(self._columns) == 1:
            column = self._columns[0]
            return {column.name: self._shaped(column.stack(chunk))}
        count = len(self._columns)
        for row in chunk:
            if not isinstance(row, list) or len(row) != count:
                names = ", ".join(repr(column.name) for column in self._columns)
                raise BadMessage(f"expected an object with the inputs {names}")
        parts = zip(self._columns, zip(*chunk, strict=True), strict=True)
        return {column.name: self._shaped(column.stack(part)) for column, part in parts}

    def _shaped(self, stacked: Any) -> Any:
        return stacked if self._added_axis else stacked[0]

    def _answers(self, feed: dict[str, Any], count: int) -> list[Any]:
        outputs = self._session.run(None, feed)
        columns = [self._rows_of(each, count) for each in outputs]
        if len(columns) == 1:
            return columns[0]
        return [dict(zip(self._outputs, answer, strict=True)) for answer in zip(*columns, strict=True)]

    def _rows_of(self, output: Any, count: int) -> list[Any]:
        """One plain answer per record. A sequence of maps (class to probability) gets strings for keys."""
        values = output.tolist() if hasattr(output, "tolist") else output
        if not self._added_axis or not isinstance(values, list) or len(values) != count:
            values = [values]
        if len(values) != count:
            raise ValueError(f"the model gave {len(values)} answers for {count} records: one for each is needed")
        if isinstance(values[0], dict):
            return [{str(key): value for key, value in each.items()} for each in values]
        return values

    def _tensor(self, output: Any) -> Tensor | None:
        if output.type not in _DTYPES:
            return None
        return _tensor(output.name, _DTYPES[output.type], self._row_shape(output.shape))

    def _row_shape(self, shape: list[Any]) -> tuple[int | None, ...]:
        sizes = tuple(size if isinstance(size, int) else None for size in shape)
        return sizes[1:] if self._added_axis else sizes


def _tensor(name: str, dtype: str, sizes: tuple[int | None, ...]) -> Tensor:
    shape = tuple(-1 if size is None else size for size in sizes)
    return Tensor(name, _DATATYPES.get(dtype, dtype.upper()), shape)


def _free(shape: list[Any]) -> bool:
    return bool(shape) and not isinstance(shape[0], int)


def _brief(error: BaseException) -> str:
    """onnxruntime's message without its leading code, on one line."""
    words = " ".join(str(error).split())
    return words.rsplit(" : ", 1)[-1][:300]
