"""The example with a TensorFlow model: code from git, MQTT and Kafka, environments from the store, as plain Keras."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import tensorflow_env
from support.kafka import Kafka
from support.mosquitto import Mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(420)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "lstm-anomaly"
RECORDS = 320


def test_both_forms_answer_what_keras_does(tmp_path: Path, broker: Mosquitto, kafka: Kafka) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("work", "__pycache__"))
    argv = [sys.executable, str(folder / "run.py"), "--mqtt", f"127.0.0.1:{broker.port}", "--kafka", kafka.server]
    argv += ["--records", str(RECORDS), "--python", str(tensorflow_env.python())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    expected = re.search(rf"offline: (\d+) of {RECORDS} measurements", done.stdout)
    assert expected, done.stdout
    assert int(expected[1]) > 20
    for form in ("distributed", "atomic"):
        assert f"{form}: {expected[1]} anomalies, largest difference from plain Keras" in done.stdout
