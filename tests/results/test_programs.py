"""Producer and collector themselves, on a broker that goes and comes back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from support.cluster import wait_for
from support.mosquitto import Mosquitto
from support.results.collector import Collector
from support.results.pipelines import payload
from support.results.producer import Producer, publish

pytestmark = pytest.mark.broker


def test_nothing_is_missed_over_restarts_of_the_broker(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Collector(broker.port, "t") as collector:
        with Producer(broker.port, "t", payload, 3_000, rate=2_000.0) as producer:
            for share in (500, 1_500):
                wait_for("some are confirmed", lambda share=share: len(producer.confirmed) >= share)  # type: ignore[misc]
                broker.restart()
            producer.wait()
        wait_for("all came", lambda: collector.distinct == 3_000)
    assert producer.confirmed == set(range(3_000))
    assert set(collector.numbers()) == set(range(3_000))


def test_a_record_that_nobody_could_get_is_published_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        publish(broker.port, "t", [b"nobody is there, and that is fine here"])
        with Producer(broker.port, "t", payload, 1) as producer:
            wait_for("it was refused", lambda: producer.refused)
            assert not producer.done
            with Collector(broker.port, "t") as collector:
                producer.wait()
                wait_for("it came", lambda: collector.records)


def test_a_load_lasts_as_long_as_it_is_wanted(tmp_path: Path) -> None:
    wanted = threading.Event()
    wanted.set()
    with Mosquitto(tmp_path) as broker, Collector(broker.port, "t") as collector:
        with Producer(broker.port, "t", payload, 10, 500.0, wanted.is_set) as producer:
            wait_for("it goes on", lambda: len(producer.confirmed) > 100)
            wanted.clear()
            producer.wait()
        wait_for("all came", lambda: collector.distinct == len(producer.sent))
    assert producer.confirmed == producer.sent == set(range(len(producer.sent)))


def test_the_pace_is_kept(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path) as broker,
        Collector(broker.port, "t"),
        Producer(broker.port, "t", payload, 200, 100.0) as p,
    ):
        p.wait()
    assert p.reached <= 101.0
