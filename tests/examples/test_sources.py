"""The example's two producers: a CSV file and this machine's sensors."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from support.example import EXAMPLE, load, metric
from support.mosquitto import Mosquitto, free_port

WAIT_S = 10.0


def publish_csv(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / "publish_csv.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    lines = ["timestamp,value", *(f"{each['timestamp']},{each['value']}" for each in metric(700))]
    path = tmp_path / "cpu.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv_becomes_one_json_line_per_row(csv_file: Path) -> None:
    done = publish_csv(str(csv_file))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == metric(700)


def test_no_broker_is_one_sentence(csv_file: Path) -> None:
    done = publish_csv(str(csv_file), "--server", "127.0.0.1", "--port", str(free_port()))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "refused" in done.stderr


@pytest.mark.broker
def test_a_foreign_producer_is_confirmed_and_heard(csv_file: Path, tmp_path: Path) -> None:
    heard: Queue[Any] = Queue()
    subscribed: Queue[None] = Queue()
    reader = Client(CallbackAPIVersion.VERSION2)
    reader.on_message = lambda _client, _data, message: heard.put(json.loads(message.payload))
    reader.on_connect = lambda client, *_rest: client.subscribe("plant/raw", qos=1)
    reader.on_subscribe = lambda *_rest: subscribed.put(None)
    with Mosquitto(tmp_path / "broker") as broker:
        reader.connect("127.0.0.1", broker.port)
        reader.loop_start()
        subscribed.get(timeout=WAIT_S)
        done = publish_csv(str(csv_file), "--server", "127.0.0.1", "--port", str(broker.port), "--topic", "plant/raw")
        received = [heard.get(timeout=WAIT_S) for _ in range(700)]
        reader.disconnect()
        reader.loop_stop()
    assert done.stderr == f"700 records confirmed by 127.0.0.1:{broker.port}\n"
    assert received == metric(700)


@pytest.mark.e2e
def test_sensors_measure_this_machine_at_the_asked_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = list(load("sensors.py", monkeypatch).samples(rate_hz=20.0, seconds=0.5))
    assert len(measured) == 10
    assert all(sorted(each) == ["cpu", "disk", "network", "timestamp"] for each in measured)
    assert all(each[name] >= 0 for each in measured for name in ("cpu", "disk", "network"))
    times = [datetime.fromisoformat(each["timestamp"]) for each in measured]
    assert times == sorted(times)
    assert (times[-1] - times[0]).total_seconds() > 0.2
