"""scikit-learn models, from joblib or pickle, always on the whole batch."""

from __future__ import annotations

import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

from fogline.runtimes import options
from fogline.runtimes.errors import BadMessage
from fogline.runtimes.frameworks import rows
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.frameworks.signature import Signature, Tensor, signature
from fogline.runtimes.frameworks.signs import mistaken
from fogline.runtimes.traces import sentence

log = logging.getLogger("fogline.sklearn")

CHUNK = 1024
_DATATYPES = {"i": "int64", "U": "object", "O": "object", "b": "bool", "f": "float64"}
"""Of classes, by numpy's kind."""


class SklearnModel(Framework):
    """`method` answers; an estimator fitted with feature names reads objects by these names."""

    def load(self) -> None:
        try:
            import joblib
            import numpy as np
            from sklearn.exceptions import InconsistentVersionWarning
        except ImportError as error:
            raise self.unusable(f"needs {error.name}, which is not installed here: fogline[sklearn]") from error
        given = options.defaults(options.FRAMEWORKS["sklearn"], self.stage.options)
        file = self.model_file
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InconsistentVersionWarning)
            model = self._read_file(file, joblib if given["serializer"] == "joblib" else None)
        for warning in caught:
            if isinstance(warning.message, InconsistentVersionWarning):
                self._judge_version(warning.message)
        self._method = getattr(model, given["method"], None)
        if self._method is None:
            raise self.unusable(f"the model is a {type(model).__name__}, which has no method {given['method']!r}")
        self._np = np
        self._features: int | None = getattr(model, "n_features_in_", None)
        names = self._names = [str(each) for each in getattr(model, "feature_names_in_", ())]
        if self._features is not None:
            self.inputs = tuple(Tensor(name, "float64", ()) for name in names)
            self.inputs = self.inputs or (Tensor("record", "float64", (self._features,)),)
            self.outputs = self._answers_as_declared(model, given["method"])
        # We hand arrays in the fitted order; the warning that they carry no names would come per batch.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        wish = given.get("input")
        self._read = rows.reader(wish, names)
        self._input = wish if isinstance(wish, str) else "record"
        self._output = given.get("output")

    def signature(self) -> Signature | None:
        """One row of numbers; a pipeline that begins with text has no number of features, and reads anything."""
        if self._features is None:
            return None
        row = [Tensor("", "float64", (self._features,))]
        return signature(self.stage.options, row, self.outputs, self._names)

    def _answers_as_declared(self, model: Any, method: str) -> tuple[Tensor, ...]:
        """Of classifiers, which know their classes; what another estimator answers shows only in an answer."""
        classes = getattr(model, "classes_", None)
        datatype = _DATATYPES.get(getattr(getattr(classes, "dtype", None), "kind", ""))
        if classes is None or datatype is None or method not in {"predict", "predict_proba"}:
            return ()
        return (Tensor(method, datatype, ()) if method == "predict" else Tensor(method, "float64", (len(classes),)),)

    def process(self, records: list[Any]) -> list[Result]:
        answers = rows.in_chunks(records, self._read, self._run_chunk, CHUNK)
        return rows.place(records, answers, self._output)

    def _run_chunk(self, chunk: list[Any]) -> list[Any]:
        """The whole chunk at once; when it does not stack or the model refuses it, each row alone."""
        try:
            answers = self._answers(chunk)
        except Exception as error:  # noqa: BLE001 - any estimator may raise anything
            if len(chunk) > 1:
                return [answer for row in chunk for answer in self._run_chunk([row])]
            refused = BadMessage(f"the model refused the record: {sentence(error)}")
            return [Failed(error if isinstance(error, BadMessage) else refused)]
        return answers

    def _answers(self, chunk: list[Any]) -> list[Any]:
        assert self._method is not None
        answer = self._method(self._matrix(chunk))
        if hasattr(answer, "toarray"):
            answer = answer.toarray()
        values = self._np.asarray(answer).tolist()
        if not isinstance(values, list) or len(values) != len(chunk):
            raise BadMessage("the model did not give one answer per record")
        return values

    def _matrix(self, chunk: list[Any]) -> Any:
        """Numbers as one float matrix; rows with strings in them as objects; plain strings as they are."""
        if all(isinstance(row, str) for row in chunk):
            return chunk
        from fogline.runtimes.frameworks.tensors import Column

        listed = [row if isinstance(row, list) else [row] for row in chunk]
        if str in map(type, listed[0]):  # of a row further on that differs, stacking tells
            return self._np.array(listed, dtype=object)
        return Column(self._input, self._np.dtype("float64"), (self._features,)).stack(listed)

    def _read_file(self, path: Path, joblib: Any) -> Any:
        try:
            if joblib is not None:
                return joblib.load(path)
            with path.open("rb") as file:
                return pickle.load(file)  # noqa: S301 - only from a digest-pinned artifact
        except ModuleNotFoundError as error:
            raise self.unusable(
                f"{self.model_name} needs the module {error.name}, which is not installed here"
            ) from error
        except Exception as error:
            kind = "joblib" if joblib is not None else "pickle"
            words = mistaken(path, "sklearn") or sentence(error)
            raise self.unusable(f"{self.model_name} cannot be read as {kind}: {words}") from error

    def _judge_version(self, warning: Any) -> None:
        """Another minor version may answer differently without an error; a patch release only warns."""
        saved, here = warning.original_sklearn_version, warning.current_sklearn_version
        words = f"{self.model_name} was saved with scikit-learn {saved}, here is {here}"
        if str(saved).split(".")[:2] != str(here).split(".")[:2]:
            raise self.unusable(f"{words}: install scikit-learn=={saved} or save the model again")
        log.warning("%s", words)
