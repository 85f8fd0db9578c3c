"""TensorFlow and Keras models: `.h5`, `.keras`, and SavedModel folders. Heavy: TFLite or ONNX where it can be had."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fogline.runtimes import options
from fogline.runtimes.frameworks.signature import Tensor
from fogline.runtimes.frameworks.signs import mistaken
from fogline.runtimes.frameworks.tensor_model import Schema, TensorModel

_SIGNATURE = "serving_default"
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "KERAS_BACKEND": "tensorflow"}
"""Set before the import, where the stage's environment does not say otherwise. Without the second one the answers
of a model depend a little on how many threads there are, and a notice says so."""

Run = Callable[[dict[str, Any]], Sequence[Any]]


class TensorflowModel(TensorModel):
    """The model becomes one compiled function of named tensors, traced once for batches of any size: called as it
    is, Keras takes fifty times as long."""

    extra = "tensorflow"

    def import_library(self) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        import tensorflow

        tensorflow.get_logger().setLevel("ERROR")
        threads = tensorflow.config.threading
        if threads.get_intra_op_parallelism_threads() != 1:  # it may be set once, before anything runs
            threads.set_intra_op_parallelism_threads(1)
            threads.set_inter_op_parallelism_threads(1)
        self._tf = tensorflow

    def read_model(self) -> Schema:
        given = options.completed("tensorflow", {**self.stage.options, "path": str(self.path)})
        read = self._saved_model if given["serializer"] == "savedmodel" else self._keras_model
        inputs, outputs, self._function = read(given["serializer"])
        return inputs, outputs

    def run(self, feed: dict[str, Any]) -> Sequence[Any]:
        constants = {name: self._tf.constant(array) for name, array in feed.items()}
        return [_plain(each.numpy()) for each in self._function(constants)]

    def _saved_model(self, _: str) -> tuple[Sequence[Tensor], Sequence[Tensor], Run]:
        if not self.path.exists():
            raise self.unusable(f"there is no model folder {self.path}")
        if not (self.path / "saved_model.pb").is_file():
            hint = "" if self.path.is_dir() else mistaken(self.path, self.extra, "savedmodel")
            words = f"; {hint}" if hint else ""
            raise self.unusable(f"{self.path} is not the folder of a SavedModel: it has no saved_model.pb{words}")
        try:
            self._model = self._tf.saved_model.load(str(self.path))
        except Exception as error:
            raise self.not_ours("a SavedModel", error) from error
        signatures = self._model.signatures
        name = _SIGNATURE if _SIGNATURE in signatures or len(signatures) != 1 else next(iter(signatures))
        if name not in signatures:
            found = ", ".join(sorted(signatures)) or "none"
            raise self.unusable(
                f"{self.model_name} has no signature {_SIGNATURE}; it has {found}: save it by model.export"
            )
        function = signatures[name]
        # Neither map has an order to rely on: by name it is the same in every process.
        inputs = [self._tensor(name, spec) for name, spec in sorted(function.structured_input_signature[1].items())]
        outputs = [self._tensor(name, spec) for name, spec in sorted(function.structured_outputs.items())]
        names = [each.name for each in outputs]

        def run(feed: dict[str, Any]) -> Sequence[Any]:
            answers = function(**feed)
            return [answers[each] for each in names]

        return inputs, outputs, run

    def _keras_model(self, serializer: str) -> tuple[Sequence[Tensor], Sequence[Tensor], Run]:
        model = self._loaded_by_keras(self.model_file, serializer)
        if not getattr(model, "inputs", None):
            raise self.unusable(
                f"{self.model_name} does not say what it reads: save it by model.export as a SavedModel"
            )
        tf, tensors = self._tf, model.inputs
        inputs = [self._tensor(each.name, each) for each in tensors]
        specs = [tf.TensorSpec(each.shape, each.dtype) for each in tensors]

        def call(*given: Any) -> Any:
            arguments = tf.nest.pack_sequence_as(model.input, given) if len(given) > 1 else given[0]
            return tf.nest.flatten(model(arguments, training=False))

        function = tf.function(call, input_signature=specs, autograph=False).get_concrete_function()
        names = [str(each) for each in getattr(model, "output_names", ())]
        found = [self._tensor(f"output_{place}", each) for place, each in enumerate(function.structured_outputs)]
        if len(names) == len(found):
            found = [Tensor(name, each.datatype, each.shape) for name, each in zip(names, found, strict=True)]
        return inputs, found, lambda feed: function(*(feed[each.name] for each in inputs))

    def _loaded_by_keras(self, file: Path, serializer: str) -> Any:
        """Keras tells the format by the ending of the name, which an artifact does not have."""
        with tempfile.TemporaryDirectory(prefix="fogline-keras-") as scratch:
            named = Path(scratch) / f"model.{serializer}"
            named.symlink_to(file.absolute())
            try:
                # Losses and metrics are of no use here, and those given by name cannot be read back from h5.
                return self._tf.keras.models.load_model(str(named), compile=False)
            except Exception as error:
                raise self.not_ours(f"a Keras model of format {serializer}", error) from error

    def _tensor(self, name: str, spec: Any) -> Tensor:
        datatype = self._tf.as_dtype(spec.dtype)
        if spec.shape is None or getattr(spec.shape, "rank", 0) is None:
            raise self.unusable(f"{name!r} of {self.model_name} has a shape of any rank, which is not supported")
        kind = "object" if datatype == self._tf.string else datatype.name
        return Tensor(name, kind, tuple(spec.shape))


def _plain(array: Any) -> Any:
    """Strings come as bytes."""
    if array.dtype != object:
        return array
    flat = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in array.ravel()]
    array.ravel()[:] = flat
    return array
