"""`run` as a real process, with real code, against a real broker."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogline.runtimes.garbage import COLLECT_AFTER
from fogline.runtimes.spec import Exit, OnErrorSpec, SegmentSpec, digest
from support.mosquitto import Mosquitto, free_port
from support.mqtt_peer import Peer
from support.segments import Control, RunningSegment, code_stage, mqtt_end, segment, wait_until, write_code

pytestmark = [pytest.mark.e2e, pytest.mark.broker]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


PASS = "def handler(data): return data"


def three_stages(folder: Path, port: int, last: str = PASS, max_size: int = 256) -> SegmentSpec:
    first = write_code(folder / "first", "def handler(data): return data | {'first': True}")
    batch = write_code(folder / "batch", "def handler(data): ...\ndef handler_batch(each): return each")
    stages = (
        code_stage("a", first, "in", "a..b"),
        code_stage("b", batch, "a..b", "b..c"),
        code_stage("c", write_code(folder / "last", last), "b..c", "out"),
    )
    sources, sinks = (mqtt_end("in", "a", port),), (mqtt_end("out", "c", port),)
    return segment(*stages, sources=sources, sinks=sinks, max_size=max_size)


def numbered(start: int, stop: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, stop)]


def ns(peer: Peer) -> list[int]:
    return [json.loads(payload)["n"] for payload in peer.payloads]


def test_three_stages_from_a_spec_to_the_exit(tmp_path: Path, broker: Mosquitto) -> None:
    spec = three_stages(tmp_path, broker.port)
    with RunningSegment(spec, tmp_path / "w", bind=False) as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("loaded")
        hello = process.ask("hello", nonce="nonce-of-the-test", spec_digest="", version=1)
        assert (hello["pid"], hello["spec_digest"]) == (process.process.pid, digest(spec.to_bytes()))
        process.ask("bind")
        process.until("ready").ask("bind")
        peer.publish("t/in", *numbered(0, 600))
        peer.until(600)
        assert ns(peer) == list(range(600))
        assert re.fullmatch(r"[0-9a-f]{64}/a/0/b/0/c/0", peer.ids[0])
        wait_until(lambda: process.counters("c")["in_flight"] == 0, "all acknowledged")
        for stage in "abc":
            row = process.counters(stage)
            assert (row["in"], row["done"], row["out"]) == (600, 600, 600)
        status = process.ask("status")
        assert 0 < status["stages"][0]["p50_s"] <= status["stages"][0]["p99_s"] < 10
        assert status["last_progress_s"] < 2
        assert [(each["queue"], each["connected"]) for each in status["connections"]] == [("in", True), ("out", True)]
        assert process.ask("drain", deadline_s=5)["ok"]
        assert process.wait() == Exit.DONE
        assert not (process.folder / "control.sock").exists()
        assert re.search(r"^\d{4}-\d\d-\d\dT[\d:.]+Z INFO p/a/0/a ready$", process.log(), re.MULTILINE)


@pytest.mark.parametrize(
    ("code", "threshold"),
    [("import gc", COLLECT_AFTER), ("import gc\ngc.set_threshold(123)", 123)],
    ids=["raised", "set by user code"],
)
def test_garbage_is_collected_rarely_unless_user_code_says_how_often(
    code: str, threshold: int, tmp_path: Path, broker: Mosquitto
) -> None:
    stage = write_code(tmp_path / "code", f"{code}\ndef handler(data): return {{'n': gc.get_threshold()[0]}}")
    sources, sinks = (mqtt_end("in", "a", broker.port),), (mqtt_end("out", "a", broker.port),)
    spec = segment(code_stage("a", stage, "in", "out"), sources=sources, sinks=sinks)
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", b"0")
        peer.until(1)
        assert ns(peer) == [threshold]


def test_killed_in_mid_stream_it_loses_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    total = 3000
    slow = "import time\ndef handler(data):\n    time.sleep(0.0005)\n    return data"
    spec = three_stages(tmp_path, broker.port, slow, max_size=32)
    with Peer(broker.port) as peer, RunningSegment(spec, tmp_path / "w") as process:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", *numbered(0, total))
        for kill_at in (400, 1200, 2000):
            peer.until(kill_at + 1)
            process.kill()
            process.__enter__()
        wait_until(lambda: len(set(ns(peer))) == total, "every record")
        process.until("ready")
        wait_until(lambda: process.counters("c")["in_flight"] == 0, "all acknowledged")
        seen = ns(peer)
        assert list(dict.fromkeys(seen)) == list(range(total))  # in order, repetitions aside
        assert len(seen) - total <= 3 * 64  # at most a window each time
        for stage in "abc":
            row = process.counters(stage)
            assert row["in"] == row["done"] >= total - 3 * 64
        assert process.terminate() == Exit.DONE


def test_the_broker_restarted_in_mid_stream_loses_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    total = 2000
    spec = three_stages(tmp_path, broker.port, max_size=16)
    with RunningSegment(spec, tmp_path / "w") as process:
        process.until("ready")
        with Peer(broker.port, client_id="feeder") as peer:
            peer.publish("t/in", *numbered(0, 1000))
        broker.restart()
        with Peer(broker.port) as peer:
            peer.subscribe("t/out")
            peer.publish("t/in", *numbered(1000, total))
            wait_until(lambda: set(range(1000, total)) <= set(ns(peer)), "what came after")
        wait_until(lambda: process.counters("c")["in_flight"] == 0, "all acknowledged")
        assert process.counters("a")["done"] >= total
        assert process.terminate() == Exit.DONE


def test_a_failing_record_that_stops_its_segment_stays_with_the_broker(tmp_path: Path, broker: Mosquitto) -> None:
    poison = "def handler(data):\n    assert data['n'] != 7, 'seven'\n    return data"
    spec = three_stages(tmp_path, broker.port, poison)
    stages = (*spec.stages[:2], dataclasses.replace(spec.stages[2], on_error=OnErrorSpec(retries=2, then="stop")))
    spec = dataclasses.replace(spec, stages=stages)
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", *numbered(0, 20))
        assert process.wait() == Exit.RECORD_FAILED
        failure = process.failure()
        peer.until(7)
        assert ns(peer) == list(range(7))
    assert (failure["stage"], failure["reason"], failure["attempts"]) == ("c", "AssertionError: seven", 3)
    assert json.loads(failure["record"]) == {"n": 7, "first": True}
    assert "line 2, in handler" in failure["trace"]
    write_code(tmp_path / "last", "def handler(data): return data")
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        peer.until(13)
        assert ns(peer) == list(range(7, 20))
        assert not (process.folder / "failure.json").exists()


def test_a_stage_that_cannot_be_loaded_is_a_final_word(tmp_path: Path) -> None:
    with RunningSegment(three_stages(tmp_path, 1, "raise ValueError('no')"), tmp_path / "w") as process:
        assert process.wait() == Exit.STAGE_UNUSABLE
        failure = process.failure()
    assert (failure["stage"], failure["reason"]) == ("c", "main.py:1 failed at import: ValueError: no")


def test_bytes_that_are_no_spec_are_a_final_word_too(tmp_path: Path) -> None:
    process = RunningSegment(three_stages(tmp_path, 1), tmp_path / "w")
    (tmp_path / "w" / "spec.json").write_text('{"spec_version": 99}')
    with process:
        assert process.wait() == Exit.BAD_SPEC
        assert "upgrade" in process.failure()["reason"]


def test_a_broker_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    with RunningSegment(three_stages(tmp_path, port), tmp_path / "w") as process:
        process.until("loading")
        reason = wait_until(lambda: process.ask("status")["reason"], "the reason")
        assert reason == f"broker 127.0.0.1:{port}: Connection refused"
        with Mosquitto(tmp_path / "late", port=port):
            process.until("ready")
            assert process.ask("status")["reason"] == ""
            assert process.terminate() == Exit.DONE


def test_asked_to_end_while_waiting_it_ends(tmp_path: Path) -> None:
    with RunningSegment(three_stages(tmp_path, free_port()), tmp_path / "w") as process:
        wait_until(lambda: process.until("loading").ask("status")["reason"], "it waits for the broker")
        assert process.terminate() == Exit.DONE


def test_sigterm_drains_what_was_taken(tmp_path: Path, broker: Mosquitto) -> None:
    slow = "import time\ndef handler(data):\n    time.sleep(0.01)\n    return data"
    spec = three_stages(tmp_path, broker.port, slow, max_size=16)
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", *numbered(0, 200))
        peer.until(21)
        assert process.terminate() == Exit.DONE
        drained = len(peer.payloads)
        assert drained < 200
        process.__enter__()
        peer.until(200)
        assert ns(peer) == list(range(200))  # not one of them twice: all taken was acknowledged


def test_a_busy_handler_shows_in_the_progress_and_not_in_the_connection(tmp_path: Path, broker: Mosquitto) -> None:
    busy = "import time\ndef handler(data):\n    time.sleep(2)\n    return data"
    with RunningSegment(three_stages(tmp_path, broker.port, busy), tmp_path / "w") as process:
        process.until("ready")
        with Peer(broker.port) as peer:
            peer.publish("t/in", b'{"n":1}')
        hung = wait_until(lambda: (s := process.ask("status"))["last_progress_s"] > 1 and s, "the hang is seen")
        assert 0 < hung["stalled_s"] <= hung["last_progress_s"] + 0.01
        assert hung["stalled_stage"] == "c"
        assert process.counters("c") == process.counters("c") | {"in": 1, "in_flight": 1, "done": 0}
        wait_until(lambda: process.counters("c")["done"] == 1, "it goes on")
        rests = process.ask("status")
        assert (rests["stalled_s"], rests["stalled_stage"]) == (0.0, "")


def test_what_user_code_prints_is_in_the_log_at_once(tmp_path: Path, broker: Mosquitto) -> None:
    talking = "def handler(data):\n    print('seen', data['n'])\n    return data"
    with RunningSegment(three_stages(tmp_path, broker.port, talking), tmp_path / "w") as process:
        process.until("ready")
        with Peer(broker.port) as peer:
            peer.publish("t/in", b'{"n":1}')
        wait_until(lambda: "seen 1\n" in process.log(), "the printed line")


def test_a_tap_shows_an_in_memory_link(tmp_path: Path, broker: Mosquitto) -> None:
    with RunningSegment(three_stages(tmp_path, broker.port), tmp_path / "w") as process:
        process.until("ready")
        with Control(process.folder) as control, Peer(broker.port) as peer:
            assert control.ask("tap", queue="a..b", count=1)["ok"]
            peer.publish("t/in", *numbered(0, 3))
            assert control.line() == {"id": "tap", "record": {"n": 0, "first": True}}
            assert control.line() == {"id": "tap", "last": True}


def test_a_second_copy_supersedes_the_first_which_says_so(tmp_path: Path, broker: Mosquitto) -> None:
    spec = three_stages(tmp_path, broker.port)
    with RunningSegment(spec, tmp_path / "one") as first:
        first.until("ready")
        with RunningSegment(spec, tmp_path / "two") as second:
            deadline = time.monotonic() + 40
            while first.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert first.process.poll() == Exit.SUPERSEDED
            assert first.failure()["reason"].startswith("superseded: ")
            second.until("ready")
            assert second.terminate() == Exit.DONE
