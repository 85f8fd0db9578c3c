"""FastAPI as its documentation has it: a pydantic model for the record, `predict` in the handler, uvicorn beneath.

python fastapi_as_shipped.py MODEL PORT
"""

from __future__ import annotations

import sys
from typing import Any

import joblib
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model: Any = joblib.load(sys.argv[1])
app = FastAPI()


class Record(BaseModel):
    """What is sent."""

    features: list[float]


class Answer(BaseModel):
    """What comes back."""

    score: int


@app.post("/predict")
def predict(record: Record) -> Answer:
    """One row."""
    return Answer(score=int(model.predict([record.features])[0]))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
