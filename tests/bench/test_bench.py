"""The bench itself, at its smallest: that rows come out, not what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.raw_mqtt import RawClient, make_session
from support.mosquitto import Mosquitto

TESTS = Path(__file__).parents[1]


@pytest.mark.broker
@pytest.mark.e2e
def test_a_tiny_run_of_one_group(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    argv = [sys.executable, "-m", "bench", "--quick", "--rows", "hop", "--output", str(output)]
    done = subprocess.run(argv, cwd=TESTS, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())
    assert [row["budget"] for row in rows] == ["<= 3x", None]
    assert all(row["ours"] > 0 and row["theirs"] > 0 and row["ratio"] > 0 for row in rows)
    assert "bare publish to subscribe" in done.stdout


@pytest.mark.broker
def test_the_raw_client_gets_what_a_session_collected(tmp_path: Path) -> None:
    payloads = [b"%d" % number + b"x" * (number % 300) for number in range(3000)]
    with Mosquitto(tmp_path / "broker") as broker:
        make_session(broker.port, "reader", "raw/t")
        with RawClient(broker.port) as feeder:
            feeder.publish_all("raw/t", payloads)
            assert feeder.acknowledged == len(payloads)
        with RawClient(broker.port, "reader") as reader:
            collected, times = reader.collect(len(payloads))
        assert collected == payloads
        assert times == sorted(times)
