"""What every peer of the Kafka rows does with records. It runs in the peers' own environments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import joblib


class Judge:
    """The model, and the answer added to a record under `score`."""

    def __init__(self, path: str) -> None:
        self._model = joblib.load(path)

    def one(self, record: dict[str, Any]) -> dict[str, Any]:
        """As the tutorials do it: a prediction for each record."""
        record["score"] = int(self._model.predict([record["features"]])[0])
        return record

    def many(self, records: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """One prediction for all of them."""
        answers = self._model.predict([record["features"] for record in records]).tolist()
        for record, answer in zip(records, answers, strict=True):
            record["score"] = answer
        return records


def arguments() -> tuple[str, str, str, str, Judge]:
    """SERVER SOURCE SINK GROUP MODEL, as every peer is called."""
    server, source, sink, group, model = sys.argv[1:]
    return server, source, sink, group, Judge(model)
