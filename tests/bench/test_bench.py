"""The bench itself, at its smallest: that rows come out, not what they say."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bench import peers_env
from bench.kafka_load import Arrival, Records, arrivals, compare, fill, fill_hidden, make_topic, rate_of
from bench.load import Course, Drive, by_c, by_python, compiled
from bench.models import write
from bench.raw_mqtt import RawClient, make_session
from support.kafka import Kafka
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


def _load(kind: str, course: Course, payloads: Sequence[bytes], folder: Path) -> AbstractContextManager[Drive]:
    if kind == "python":
        return by_python(course, payloads, lambda _payload: 1)
    program = compiled()
    assert program is not None
    return by_c(program, course, payloads, folder)


def _relay(port: int) -> None:
    with contextlib.suppress(OSError), RawClient(port, "relay") as client:
        client.relay("load/out")


@pytest.mark.broker
@pytest.mark.parametrize("kind", ["python", *(["c"] if shutil.which("cc") else [])])
def test_a_load_gets_back_all_that_it_fed(kind: str, tmp_path: Path) -> None:
    payloads = [b"%d" % number + b"x" * (number % 300) for number in range(5000)]
    with Mosquitto(tmp_path / "broker", extra=("max_inflight_messages 0",)) as broker:
        make_session(broker.port, "relay", "load/in")
        course = Course(broker.port, "load/in", "load/out", between=500)
        with _load(kind, course, payloads, tmp_path / "load") as drive:
            relay = threading.Thread(target=_relay, args=(broker.port,), daemon=True)
            relay.start()
            made, times = drive()
        assert made == payloads
        assert times == sorted(times)
    relay.join()


@pytest.mark.broker
def test_a_topic_is_filled_and_read_and_a_loss_is_found(kafka: Kafka, tmp_path: Path) -> None:
    records = Records(write(tmp_path, 200), 1000)
    topic = make_topic(kafka.server, partitions=2)
    fill_hidden(topic, records.payloads())()
    found = arrivals(topic, 1000)
    assert rate_of(found, 1000) > 0
    with pytest.raises(KeyError, match="score"):
        compare(found, records, 1000)
    judged = [_judged(each, records) for each in found]
    compare(judged, records, 1000)
    with pytest.raises(ValueError, match="1 of 999 records were lost"):
        compare([each for each in judged if b'"n":7,' not in each.payload], records, 1000)
    other = make_topic(kafka.server)
    fill(other, [b'{"n":0}', b'{"n":1}'])
    assert [each.payload for each in arrivals(other, 2)] == [b'{"n":0}', b'{"n":1}']


def _judged(arrival: Arrival, records: Records) -> Arrival:
    record = json.loads(arrival.payload)
    score = records.expected(record["n"])["score"]
    return Arrival(arrival.appended_ms, json.dumps(record | {"score": score}, separators=(",", ":")).encode())


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements-odd.txt").write_text("fogline-has-no-such-peer @ file:///nowhere.whl\n")
    monkeypatch.setattr(peers_env, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(peers_env, "ENVIRONMENTS", tmp_path / "environments")
    monkeypatch.setattr(peers_env, "SHARED", ())
    assert peers_env.names() == ["odd"]
    with pytest.raises(peers_env.NotInstalled, match=r"odd: .*nowhere\.whl"):
        peers_env.python_of("odd")
