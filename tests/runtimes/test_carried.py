"""What a message carries, on its way through a segment and through the dead letters; and what is not believed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.connectors.mqtt_metadata import carried_by, properties_of
from fogline.runtimes.letter_file import LetterFile
from fogline.runtimes.message import LATEST_MS, Carried, Item, id_of, time_ms_of, trace_of
from fogline.runtimes.mqtt.packets import packed_property
from fogline.runtimes.spec import OnErrorSpec
from support.plant import Plant
from support.segments import wait_until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CARRIED = Carried(b"oven\xff", 1_700_000_000_123, TRACE)


def twice(record: Any) -> list[Any]:
    return [record, record]


def carried_in(plant: Plant, queue: str) -> list[Carried]:
    return [carried for _, _, carried, _ in plant.queues[queue].waiting]


def test_whatever_is_made_of_a_message_takes_it_along() -> None:
    plant = Plant(("a", "in", "a..b", twice), ("b", "a..b", "out", twice))
    plant.queues["in"].put(b"1", CARRIED)
    plant.run()
    plant.poller.close()
    assert carried_in(plant, "out") == [CARRIED] * 4


def test_a_dead_letter_keeps_it_for_its_replay_and_so_does_its_copy(tmp_path: Path) -> None:
    letters, open_ = LetterFile(tmp_path / "p.db"), list[bool]()
    policy = OnErrorSpec(retries=0, then="dead-letter", queue="trash")
    plant = Plant(("a", "in", "out", lambda n: [n / len(open_)]), on_error=policy, letters=letters)
    plant.queues["in"].put(b"1", CARRIED)
    pumping = threading.Thread(target=plant.pump.run)
    pumping.start()
    wait_until(lambda: list(letters.show()), "a letter")
    wait_until(lambda: carried_in(plant, "trash") == [CARRIED], "its copy")
    open_.append(True)
    plant.replays[0].request([1])
    wait_until(lambda: carried_in(plant, "out") == [CARRIED], "the replay")
    plant.pump.finish(5)
    pumping.join(10)
    plant.poller.close()


@pytest.mark.parametrize("digits", [b"", b"-1", b"1.5", b"x", b"\xb2", "²".encode(), b"9" * 15, b"9" * 5000])
def test_what_is_no_time_is_none(digits: bytes) -> None:
    assert time_ms_of(digits) == 0


def test_times_up_to_the_last_that_can_be_written_are_believed() -> None:
    assert [time_ms_of(b"%d" % each) for each in (1, LATEST_MS, LATEST_MS + 1)] == [1, LATEST_MS, 0]


@pytest.mark.parametrize("written", [b"\xff", b"a\0b", b"a\nb", "ä".encode(), b"x" * 513])
def test_what_cannot_be_a_trace_is_left_out(written: bytes) -> None:
    """A NUL would make a broker of MQTT hang up, for ever: what was sent would be sent again."""
    assert trace_of(written) == ""
    assert trace_of(TRACE.encode()) == TRACE


@pytest.mark.parametrize("written", [b"a\0b", b"x" * 40_000])
def test_an_id_that_cannot_go_on_is_none(written: bytes) -> None:
    assert id_of(written) == ""
    assert id_of("ofen-ä".encode()) == "ofen-ä"


@pytest.mark.parametrize("carried", [Carried(), CARRIED._replace(key=None), Carried(None, 0, TRACE), Carried(None, 5)])
def test_what_is_written_into_a_packet_is_read_from_it(carried: Carried) -> None:
    now_ms = time.time_ns() // 1_000_000
    ident, found = carried_by(properties_of(Item(0, "an/id", b"", carried)))
    assert (ident, found.traceparent) == ("an/id", carried.traceparent)
    assert found.time_ms == carried.time_ms or now_ms <= found.time_ms <= time.time_ns() // 1_000_000


def test_the_order_of_properties_makes_no_difference() -> None:
    """And what stands in the value of another is not taken for one of ours."""
    pairs = [("traceparent", TRACE), ("x", "fogline-time"), ("fogline-time", "5"), ("fogline-id", "a"), ("y", "z")]
    packed = b"".join(packed_property(*pair) for pair in pairs)
    assert carried_by(packed) == ("a", Carried(None, 5, TRACE))


def test_two_messages_without_a_time_have_each_their_own() -> None:
    packed = packed_property("fogline-id", "a") + packed_property("other", "same")
    first = carried_by(packed)[1].time_ms
    wait_until(lambda: carried_by(packed)[1].time_ms > first, "a later one")
