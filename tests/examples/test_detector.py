"""The detector: trained on made-up recordings, loaded as an ONNX model, fed through the three stages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from support.example import EXAMPLE, load, metric, telemetry

Record = dict[str, Any]


def run_pipeline(model: Path | bytes, records: list[Record], monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The anomalies that the three stages let through."""
    prepare = load("preparation/main.py", monkeypatch).handler
    keep = load("outliers_filter/main.py", monkeypatch).handler
    session = onnxruntime.InferenceSession(model)
    passed = []
    for record in map(prepare, records):
        (score,) = session.run(["score"], {"features": np.array([record["features"]])})[0]
        passed.append(keep({**record, "score": float(score)}))
    return [record for record in passed if record is not None]


def train(recording: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of `python train.py RECORDING --output OUTPUT`."""
    monkeypatch.setattr(sys, "argv", ["train.py", str(recording), "--output", str(output)])
    code: int = load("train.py", monkeypatch).main()
    return code


def write_csv(path: Path, records: list[Record]) -> Path:
    lines = ["timestamp,value", *(f"{each['timestamp']},{each['value']}" for each in records)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_jsonl(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def telemetry_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector learned from 15 seconds of an idle machine."""
    folder = tmp_path_factory.mktemp("telemetry")
    model = folder / "models" / "detector.onnx"
    recording = write_jsonl(folder / "record.jsonl", telemetry(75))
    command = [sys.executable, str(EXAMPLE / "train.py"), str(recording), "--output", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return model


@pytest.mark.parametrize(
    "burst", [{"cpu": 100.0}, {"network": 80e6}, {"disk": 200e6}], ids=["processor", "network", "disk"]
)
def test_a_burst_is_an_anomaly(telemetry_model: Path, burst: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    records = telemetry(40, seed=2)
    records[30].update(burst)
    anomalies = run_pipeline(telemetry_model, records, monkeypatch)
    assert anomalies[0]["timestamp"] == records[30]["timestamp"]
    assert anomalies[0]["anomaly"] is True


def test_an_idle_machine_has_no_anomalies(telemetry_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_pipeline(telemetry_model, telemetry(1000, seed=3), monkeypatch) == []


def test_a_burst_in_the_recording_does_not_blind_the_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = telemetry(75)
    recording[20]["disk"] = recording[21]["disk"] = 250e6
    model = tmp_path / "detector.onnx"
    assert train(write_jsonl(tmp_path / "record.jsonl", recording), model, monkeypatch) == 0
    burning = telemetry(20, seed=2) + telemetry(5, cpu=99.0)
    assert len(run_pipeline(model, burning, monkeypatch)) >= 5


def test_a_csv_is_learned_and_its_spike_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = metric(600)
    recording[400]["value"] = 95.0
    model = tmp_path / "csv-detector.onnx"
    assert train(write_csv(tmp_path / "cpu.csv", recording), model, monkeypatch) == 0
    found = {record["timestamp"] for record in run_pipeline(model, recording, monkeypatch)}
    assert found == {recording[400]["timestamp"]}


def test_scores_do_not_depend_on_the_batch(telemetry_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = load("preparation/main.py", monkeypatch).handler
    features = np.array([prepare(record)["features"] for record in telemetry(300, seed=4)])
    session = onnxruntime.InferenceSession(telemetry_model)
    together = session.run(["score"], {"features": features})[0]
    alone = [session.run(["score"], {"features": features[i : i + 1]})[0][0] for i in range(len(features))]
    assert together.shape == (300,)
    assert np.abs(together - np.array(alone)).max() <= 1e-6


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("few.jsonl", '{"timestamp": 1, "cpu": 2}\n', "too few"),
        ("torn.jsonl", '{"timestamp": 1, "cp', "torn.jsonl"),
        ("odd.csv", "time,reading\n1,2\n", "timestamp,value"),
        ("text.csv", "timestamp,value\n1,2\n2,high\n", "line 3"),
        (
            "mixed.jsonl",
            '{"timestamp": 1, "cpu": 2}\n' * 60 + '{"timestamp": 1, "disk": 2}\n',
            "other fields",
        ),
    ],
)
def test_a_recording_that_cannot_teach_is_refused(
    name: str,
    text: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_text(text)
    assert train(tmp_path / name, tmp_path / "model.onnx", monkeypatch) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.e2e
def test_the_older_form_runs_on_a_recording(telemetry_model: Path, tmp_path: Path) -> None:
    recording = write_jsonl(tmp_path / "record.jsonl", [*telemetry(5), *telemetry(1, cpu=900.0)])
    command = [sys.executable, "-m", "fogline.coordinator.cli.app", "test", str(EXAMPLE / "padl-1.0.yaml")]
    setting = f"pipeline.detector.model={telemetry_model}"
    command += ["--input", str(recording), "--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["anomaly"] for line in done.stdout.splitlines()] == [True]
