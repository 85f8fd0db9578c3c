"""The example's records through every form of its pipeline give what plain Python gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.cli.trial import first_difference
from support.cluster import Cluster, wait_for, write_json
from support.example import EXAMPLE, load
from support.mosquitto import Mosquitto
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

RECORDS = 1500


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A made-up utilisation curve with a few spikes."""
    path = tmp_path / "records.csv"
    lines = [
        f"2026-01-01 {n // 60 % 24:02}:{n % 60:02}:00,{10 + n % 7 * 0.31 + (60 if n % 211 == 210 else 0)}"
        for n in range(RECORDS)
    ]
    path.write_text("timestamp,value\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def example(tmp_path: Path, csv: Path) -> Path:
    """A copy of the example with its detector trained on the CSV."""
    folder = tmp_path / "example"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(folder)], check=True)
    argv = [sys.executable, str(folder / "train.py"), str(csv), "--output", str(folder / "models/csv-detector.onnx")]
    subprocess.run(argv, check=True)
    return folder


def _records(csv: Path) -> list[dict[str, Any]]:
    rows = [line.split(",") for line in csv.read_text().splitlines()[1:]]
    return [{"timestamp": timestamp, "value": float(value)} for timestamp, value in rows]


def _plain_python(example: Path, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The three functions called by hand, one record at a time."""
    import numpy as np
    import onnxruntime

    prepare, keep = (
        load("preparation/main.py", monkeypatch).handler,
        load("outliers_filter/main.py", monkeypatch).handler,
    )
    session = onnxruntime.InferenceSession(str(example / "models/csv-detector.onnx"))
    kept = []
    for record in records:
        prepared = prepare(record)
        (score,) = session.run(None, {"features": np.array([prepared["features"]], dtype=np.float64)})
        answer = keep({**prepared, "score": float(score[0])})
        if answer is not None:
            kept.append(answer)
    return kept


@pytest.mark.parametrize("form", ["distributed", "atomic"])
def test_a_csv_through_the_pipeline_equals_plain_python(
    form: str,
    tmp_path: Path,
    csv: Path,
    example: Path,
    broker: Mosquitto,
    fleet: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = _plain_python(example, _records(csv), monkeypatch)
    assert 0 < len(wanted) < RECORDS / 10
    lines = "".join(json.dumps(record) + "\n" for record in _records(csv))
    files = [example / "pipeline.json", example / "csv.json", *([example / "atomic.json"] if form == "atomic" else [])]
    queues = ("q1", "q4") if form == "atomic" else ("q1", "q2", "q3", "q4")
    site = write_json(example / "site.json", {"queues": {name: {"props": {"port": broker.port}} for name in queues}})
    submitted = fleet.coord("submit", *map(str, files), str(site), "--output", "json")
    assert len(json.loads(submitted.stdout)["plan"]["segments"]) == (1 if form == "atomic" else 3)
    with Collector(broker.port, "fogline-demo-csv/anomalies") as collector:
        sent = fleet.coord("send", "anomaly-csv", "-", input_=lines)
        assert f"{RECORDS} records confirmed" in sent.stderr
        wait_for("every record judged", lambda: fleet.stage("anomaly-csv", "outliers_filter")["in"] >= RECORDS)
        wait_for("every anomaly", lambda: len(collector.records) >= len(wanted))
    assert first_difference(collector.records, wanted) == ""
    counted = fleet.stage("anomaly-csv", "outliers_filter")
    assert (counted["out"], counted["filtered"]) == (len(wanted), RECORDS - len(wanted))


def test_coord_test_equals_plain_python(
    tmp_path: Path, csv: Path, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = _plain_python(example, _records(csv), monkeypatch)
    sample, expected = tmp_path / "sample.jsonl", tmp_path / "expected.jsonl"
    sample.write_text("".join(json.dumps(record) + "\n" for record in _records(csv)))
    expected.write_text("".join(json.dumps(record) + "\n" for record in wanted))
    documents = [str(example / "pipeline.json"), str(example / "csv.json")]
    argv = [str(Path(sys.executable).parent / "coord"), "test", *documents, "--input", str(sample)]
    done = subprocess.run([*argv, "--expect", str(expected)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, f"{len(wanted)} records, as expected")
    expected.write_text("".join(json.dumps({**record, "score": 0}) + "\n" for record in wanted))
    done = subprocess.run([*argv, "--expect", str(expected)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "record 1 differs" in done.stderr
