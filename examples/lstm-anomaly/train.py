"""Trains the LSTM autoencoder, and computes offline what the pipeline is to answer. Needs TensorFlow and numpy.

python train.py WORK                        # writes WORK/lstm.h5 and WORK/limit.json
python train.py WORK --offline RECORDS      # prints the pipeline's answers to RECORDS, computed in plain Keras
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
from telemetry import records

HERE = Path(__file__).parent
STEPS, FIELDS = 20, 3
TRAINED_ON, EPOCHS = 1500, 12
MARGIN = 1.5
"""A window is odd when its error is this many times the largest of those that were trained on."""


def autoencoder() -> keras.Model:
    """Input and output [N, 20, 3]: what went in, rebuilt from a summary of eight numbers."""
    return keras.Sequential(
        [
            keras.Input((STEPS, FIELDS)),
            keras.layers.LSTM(16, return_sequences=True),
            keras.layers.LSTM(8),
            keras.layers.RepeatVector(STEPS),
            keras.layers.LSTM(8, return_sequences=True),
            keras.layers.LSTM(16, return_sequences=True),
            keras.layers.TimeDistributed(keras.layers.Dense(FIELDS)),
        ]
    )


def train(work: Path) -> None:
    """Fit the model to usual telemetry; write it, and the error it stays below there."""
    keras.utils.set_random_seed(1)
    prepare = _handler(HERE / "preparation" / "main.py")
    made = [prepare(record) for record in records(TRAINED_ON, seed=1, odd=False)]
    windows = np.array([each["window"] for each in made if each is not None])
    model = autoencoder()
    model.compile("adam", loss="mse", metrics=["mae"])
    model.fit(windows, windows, epochs=EPOCHS, batch_size=32, verbose=0)
    errors = np.abs(model.predict(windows, verbose=0) - windows).mean(axis=(1, 2))
    work.mkdir(parents=True, exist_ok=True)
    model.save(work / "lstm.h5")
    (work / "limit.json").write_text(json.dumps({"limit": MARGIN * float(errors.max())}))
    print(f"trained on {len(windows)} windows, mean error {errors.mean():.4f}", file=sys.stderr)


def offline(work: Path, recording: Path) -> list[dict[str, Any]]:
    """The three stages by hand: both handlers and the model, all windows at once."""
    prepare = _handler(HERE / "preparation" / "main.py")
    shutil.copy(HERE / "outliers_filter" / "main.py", work / "outliers_filter.py")
    keep = _handler(work / "outliers_filter.py")
    model = keras.models.load_model(work / "lstm.h5", compile=False)
    prepared = [each for each in map(prepare, map(json.loads, recording.open())) if each is not None]
    rebuilt = model.predict(np.array([each["window"] for each in prepared]), verbose=0)
    answers = [keep({**each, "rebuilt": one.tolist()}) for each, one in zip(prepared, rebuilt, strict=True)]
    return [each for each in answers if each is not None]


def _handler(file: Path) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    """The stage's function, with a module and so a memory of its own."""
    spec = importlib.util.spec_from_file_location(f"{file.parent.name}_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Callable[[dict[str, Any]], dict[str, Any] | None] = module.handler
    return handler


def main() -> None:
    """Train, or compute offline."""
    parser = argparse.ArgumentParser(description="Train the autoencoder, or compute its pipeline offline.")
    parser.add_argument("work", type=Path, help="folder of lstm.h5 and limit.json")
    parser.add_argument("--offline", type=Path, metavar="RECORDS", help="a JSON object a line")
    given = parser.parse_args()
    if given.offline is None:
        train(given.work)
        return
    for answer in offline(given.work, given.offline):
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
