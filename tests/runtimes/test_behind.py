"""How far behind a reader is: the age of what it holds, wherever that is at the moment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.inlets import Batch, Inlet
from fogline.runtimes.message import NOTHING, Carried, Message
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.plant import Plant
from support.segments import RunningSegment, code_stage, mqtt_end, segment, wait_until, write_code

HOUR_S = 3600


def an_inlet() -> Inlet:
    plant = Plant(("a", "in", "out", lambda record: [record]))
    plant.poller.close()
    return Inlet(plant.sources["in"], "s", print)


def a_message(age_s: float, *, carried: bool = True) -> Message:
    origin = Carried(None, int((time.time() - age_s) * 1000)) if carried else NOTHING
    return Message(b"1", "a", 1, False, 1, time.monotonic() - age_s, origin)


def test_nothing_held_has_no_age() -> None:
    assert an_inlet().oldest_s() is None


def test_the_oldest_is_in_a_batch_or_in_user_code_or_waits() -> None:
    inlet = an_inlet()
    inlet.waiting = [a_message(10), a_message(5)]
    assert inlet.oldest_s() == pytest.approx(10, abs=1)
    inlet.running = [a_message(20)]
    assert inlet.oldest_s() == pytest.approx(20, abs=1)
    batch = Batch([a_message(30)], {}, None, [])  # type: ignore[arg-type]
    inlet.batches.append(batch)
    inlet.batches.append(Batch([a_message(25)], {}, None, []))  # type: ignore[arg-type]
    assert inlet.oldest_s() == pytest.approx(30, abs=1)


def test_without_a_time_its_arrival_counts_and_a_clock_ahead_of_ours_makes_nothing_young() -> None:
    inlet = an_inlet()
    inlet.waiting = [a_message(40, carried=False)]
    assert inlet.oldest_s() == pytest.approx(40, abs=1)
    inlet.waiting = [a_message(-50)]
    assert inlet.oldest_s() == 0.0


def test_a_pump_holds_nothing_once_all_is_acknowledged() -> None:
    seen = list[float | None]()

    def handler(record: Any) -> list[Any]:
        seen.append(inlet.oldest_s())
        return [record]

    plant = Plant(("a", "in", "out", handler))
    inlet = plant.pump._all[0]
    plant.queues["in"].put(b"1", Carried(None, int((time.time() - HOUR_S) * 1000)))
    plant.run()
    plant.poller.close()
    assert seen == [pytest.approx(HOUR_S, abs=5)]
    assert inlet.oldest_s() is None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.mark.e2e
@pytest.mark.broker
def test_a_process_tells_it_of_what_it_reads(tmp_path: Path, broker: Mosquitto) -> None:
    gate = tmp_path / "gate"
    slow = f"import os, time\ndef handler(data):\n    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    stage = code_stage("a", write_code(tmp_path / "code", slow), "in", "out")
    ends = (mqtt_end("in", "a", broker.port),), (mqtt_end("out", "a", broker.port),)
    spec = segment(stage, sources=ends[0], sinks=ends[1])
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        process.until("ready")

        def told() -> dict[str, object]:
            reads, writes = process.ask("status")["connections"]
            assert set(writes) == {"queue", "connected", "error"}
            assert (reads["reader"], reads["lag"]) == ("a", None)
            return {"oldest_s": reads["oldest_s"]}

        assert told() == {"oldest_s": None}
        peer.publish("t/in", json.dumps({}).encode(), fogline_time=str(int((time.time() - HOUR_S) * 1000)))
        wait_until(lambda: told()["oldest_s"] == pytest.approx(HOUR_S, abs=20), "an hour old")
        gate.touch()
        wait_until(lambda: told()["oldest_s"] is None, "nothing held")
