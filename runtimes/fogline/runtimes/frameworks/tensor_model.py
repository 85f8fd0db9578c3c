"""What models that read and answer tensors have in common: records to named arrays, in batches where that works.

The first dimension of an input is the batch when it is free; when it is 1, records run one by one; when it
is any other number, a record is the whole input.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from fogline.runtimes.errors import BadMessage, StageUnusable
from fogline.runtimes.frameworks import rows
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.frameworks.signature import Tensor
from fogline.runtimes.frameworks.signs import mistaken

CHUNK = 256
"""Most records in one call: bounds the memory of a batch, and past it no model here grew faster."""
_BRIEF = 300

Schema = tuple[Sequence[Tensor], Sequence[Tensor]]
"""Inputs and outputs with their whole shapes, batch included."""


class TensorModel(Framework):
    """A subclass imports its library, reads the model and runs it; this class does the rest."""

    extra: str
    """Of pyproject.toml, which brings the library. Also the name of the framework."""

    @abstractmethod
    def import_library(self) -> None:
        """Import what the model needs. An ImportError is told as what is missing."""

    @abstractmethod
    def read_model(self) -> Schema:
        """Read the model. Raises StageUnusable, best by `not_ours`."""

    @abstractmethod
    def run(self, feed: dict[str, Any]) -> Sequence[Any]:
        """The outputs, in order, for one array per input. May raise anything: the caller tries row by row."""

    def load(self) -> None:
        try:
            from fogline.runtimes.frameworks.tensors import Column

            self.import_library()
        except ImportError as error:
            reason = f"needs {error.name or error}, which is not installed here: fogline[{self.extra}]"
            raise self.unusable(reason) from error
        inputs, outputs = self.read_model()
        self._batched = all(_free(each) for each in inputs)
        self._added_axis = all(_free(each) or each.shape[:1] == (1,) for each in inputs)
        self.inputs = tuple(map(self._of_a_row, inputs))
        self.outputs = tuple(map(self._of_a_row, outputs))
        self._columns = [Column.of(each) for each in self.inputs]
        options = self.stage.options
        self._read = rows.reader(options.get("input"), [each.name for each in inputs])
        self._output = options.get("output")

    def process(self, records: list[Any]) -> list[Result]:
        run: Callable[[list[Any]], list[Any]] = self._run_chunk if self._batched else self._one_by_one
        answers = rows.in_chunks(records, self._read, run, CHUNK)
        return rows.place(records, answers, self._output)

    def not_ours(self, what: str, error: BaseException) -> StageUnusable:
        """The model cannot be read as `what` ("an ONNX model"): the library's reason, or what it is instead."""
        instead = mistaken(self.path, self.extra, str(self.stage.options.get("serializer", "")))
        words = f"; {instead}" if instead else f": {self.brief(error)}"
        return self.unusable(f"{self.model_name} is not {what} this node can run{words}")

    def brief(self, error: BaseException) -> str:
        """The library's words on one line."""
        return " ".join(str(error).split())[:_BRIEF] or type(error).__name__

    def _run_chunk(self, chunk: list[Any]) -> list[Any]:
        """The whole chunk at once; when it does not stack or the model refuses it, each row alone."""
        try:
            feed = self._feed(chunk)
        except BadMessage as error:
            return self._one_by_one(chunk) if len(chunk) > 1 else [Failed(error)]
        try:
            return self._answers(feed, len(chunk))
        except Exception as error:  # noqa: BLE001 - each library has a dozen classes of its own
            if len(chunk) > 1:
                return self._one_by_one(chunk)
            return [Failed(BadMessage(f"the model refused the record: {self.brief(error)}"))]

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
        columns = [self._rows_of(each, count) for each in self.run(feed)]
        if len(columns) == 1:
            return columns[0]
        names = [each.name for each in self.outputs]
        return [dict(zip(names, answer, strict=True)) for answer in zip(*columns, strict=True)]

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

    def _of_a_row(self, whole: Tensor) -> Tensor:
        return Tensor(whole.name, whole.datatype, whole.shape[1:]) if self._added_axis else whole


def _free(tensor: Tensor) -> bool:
    return bool(tensor.shape) and tensor.shape[0] is None
