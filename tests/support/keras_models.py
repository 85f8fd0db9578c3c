"""Real models trained by Keras, each in every format. Runs in the environment of tensorflow_env, as a program:

    python -m support.keras_models FOLDER

`sum` adds two numbers, `pair` reads `a` and `b` and answers `total` and `difference`, `lstm` tells the mean of a
window of 4 x 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 250


def main(folder: Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(7)
    for name, (model, converted) in {"sum": _sum(keras), "pair": _pair(keras), "lstm": _lstm(keras)}.items():
        model.save(folder / f"{name}.h5")
        model.save(folder / f"{name}.keras")
        model.export(folder / name, verbose=False)
        (folder / f"{name}.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(converted).convert())
    (folder / "int8.tflite").write_bytes(_quantised(tf, _sum(keras)[0]))


def _trained(model: Any, rows: Any, answers: Any) -> Any:
    # By name: such losses and metrics cannot be read back from h5, and must not be needed.
    model.compile("adam", loss="mse", metrics=["mse", "mae"] if isinstance(answers, np.ndarray) else None)
    model.optimizer.learning_rate = 0.05
    for _ in range(STEPS):
        model.train_on_batch(rows, answers)
    return model


def _sum(keras: Any) -> tuple[Any, Any]:
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(1, name="y")(inputs))
    rows = np.random.default_rng(1).uniform(-1, 1, (64, 2)).astype("float32")
    _trained(model, rows, rows.sum(axis=1, keepdims=True))
    return model, model


def _pair(keras: Any) -> tuple[Any, Any]:
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    both = keras.layers.Concatenate()([a, b])
    answers = {
        "total": keras.layers.Dense(1, name="total")(both),
        "difference": keras.layers.Dense(1, name="difference")(both),
    }
    model = keras.Model({"a": a, "b": b}, answers)
    left, right = np.random.default_rng(2).uniform(-1, 1, (2, 64, 1)).astype("float32")
    _trained(model, {"a": left, "b": right}, {"total": left + right, "difference": left - right})
    return model, model


def _lstm(keras: Any) -> tuple[Any, Any]:
    """For TFLite its batch is fixed: the converter can do no other recurrent one."""

    def layers(inputs: Any) -> Any:
        hidden = keras.layers.LSTM(8, name="hidden")(inputs)
        return keras.Model(inputs, keras.layers.Dense(1, name="y")(hidden))

    model, fixed = layers(keras.Input((4, 2), name="x")), layers(keras.Input(batch_shape=(1, 4, 2), name="x"))
    rows = np.random.default_rng(3).uniform(-1, 1, (64, 4, 2)).astype("float32")
    _trained(model, rows, rows.mean(axis=(1, 2))[:, None])
    fixed.set_weights(model.get_weights())
    return model, fixed


def _quantised(tf: Any, model: Any) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rows = np.random.default_rng(4).uniform(-4, 4, (64, 1, 2)).astype("float32")
    converter.representative_dataset = lambda: ([row] for row in rows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    made: bytes = converter.convert()
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
