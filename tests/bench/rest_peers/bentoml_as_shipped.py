"""BentoML as its documentation has it: one worker, an API of one record and one that it batches by itself.

MODEL=... bentoml serve bentoml_as_shipped:Model --port PORT
"""

from __future__ import annotations

import os

import bentoml
import joblib


@bentoml.service(workers=1)
class Model:
    """One model."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, features: list[float]) -> int:
        """One row."""
        return int(self.model.predict([features])[0])

    @bentoml.api(batchable=True)
    def predict_batch(self, features: list[list[float]]) -> list[int]:
        """Rows of several callers."""
        return [int(each) for each in self.model.predict(features)]
