"""Records that kill, kills that are nobody's fault, and floods of rubbish: real processes, a real broker."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.spec import Exit, OnErrorSpec, SegmentSpec
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer
from support.segments import RunningSegment, code_stage, command, mqtt_end, segment, wait_until, write_code

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def two_stages(folder: Path, port: int, last: str, on_error: OnErrorSpec | None = None) -> SegmentSpec:
    first = code_stage("a", write_code(folder / "first", "def handler(data): return data"), "in", "a..b")
    second = code_stage("b", write_code(folder / "last", last), "a..b", "out")
    second = dataclasses.replace(second, on_error=on_error or OnErrorSpec())
    sinks = [mqtt_end("out", "b", port)]
    if second.on_error.queue:
        sinks.append(mqtt_end(second.on_error.queue, "b", port))
    return segment(first, second, sources=(mqtt_end("in", "a", port),), sinks=tuple(sinks), max_size=64)


def letters(process: RunningSegment, *more: str | Path) -> list[dict[str, Any]]:
    done = command("dead-letters", process.folder / "dead-letters.db", *(more or ("show",)))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def payload(letter: dict[str, Any]) -> bytes:
    text: str = letter["payload"]
    return base64.b64decode(text) if letter["encoding"] == "base64" else text.encode()


def number(letter: dict[str, Any]) -> int:
    found: int = json.loads(letter["payload"])["n"]
    return found


def records(count: int) -> list[bytes]:
    return [b'{"n":%d}' % each for each in range(count)]


def arrived(peer: Peer) -> set[int]:
    return {json.loads(each)["n"] for each in peer.payloads}


def kept_alive(process: RunningSegment, done: Any) -> int:
    """Start it again whenever it died, until `done`; how often that was."""
    starts = 0
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, process.log()[-2000:]
        if process.process.poll() is not None:
            starts += 1
            process.__enter__()
        time.sleep(0.01)
    return starts


def settled(process: RunningSegment) -> dict[str, int]:
    """The row of the last stage when nothing is in flight any more."""
    process.until("ready")
    wait_until(lambda: process.counters("b")["in_flight"] == 0, "all acknowledged")
    row = process.counters("b")
    assert row["in"] == row["done"] + row["filtered"] + row["dead_lettered"] + row["dropped"]
    return row


DEADLY = """
import os, signal
def handler(data):
    if data["n"] in (70, 71, 300):
        os.kill(os.getpid(), signal.SIGSEGV)
    return data
"""


def test_records_that_kill_the_process_become_letters_and_the_rest_arrives(tmp_path: Path, broker: Mosquitto) -> None:
    spec = two_stages(tmp_path, broker.port, DEADLY, OnErrorSpec(retries=1))
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", *records(400))
        starts = kept_alive(process, lambda: len(arrived(peer)) == 397 and len(letters(process, "list")) == 3)
        assert starts <= 3 * (1 + 2)  # for each once in a batch, then twice alone
        found = {number(each): each for each in letters(process)}
        assert arrived(peer) == set(range(400)) - found.keys()
        assert found.keys() == {70, 71, 300}
        reason = "the process died while this record was in it (attempt 2)"
        assert {(each["reason"], each["attempts"], each["stage"]) for each in found.values()} == {(reason, 2, "b")}
        assert settled(process)["dead_lettered"] == 3
        assert process.terminate() == Exit.DONE


def test_a_killer_stops_its_segment_where_the_stage_says_so(tmp_path: Path, broker: Mosquitto) -> None:
    spec = two_stages(tmp_path, broker.port, DEADLY, OnErrorSpec(retries=0, then="stop"))
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", *records(100))
        kept_alive(process, lambda: process.process.poll() == Exit.RECORD_FAILED)
        assert "process died" in process.failure()["reason"]
        peer.until(70)
        assert arrived(peer) == set(range(70))
        write_code(tmp_path / "last", "def handler(data): return data")
        process.__enter__()
        wait_until(lambda: len(arrived(peer)) == 100, "the mended code gets it")


def test_random_kills_make_no_dead_letters(tmp_path: Path, broker: Mosquitto) -> None:
    slow = "import time\ndef handler(data):\n    time.sleep(0.002)\n    return data"
    chance = random.Random(7)
    spec = two_stages(tmp_path, broker.port, slow)
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", *records(1500))
        for _ in range(7):
            seen = len(peer.payloads)
            peer.until(seen + 1)
            time.sleep(chance.uniform(0.0, 0.2))
            process.kill()
            process.__enter__()
        wait_until(lambda: len(arrived(peer)) == 1500, "every record")
        row = settled(process)
        assert letters(process) == []
        assert row["done"] >= 1500
        assert process.terminate() == Exit.DONE


def rubbish(chance: random.Random, place: int) -> bytes:
    makers = (
        lambda: b"\xff\xfe%d" % place,
        lambda: b"[" * 10_000 + b"%d" % place + b"]" * 10_000,
        lambda: b"[NaN,%d]" % place,
        lambda: b"",
        lambda: b'{"n":%d' % place,
        lambda: b"%d " % place + chance.randbytes(30) + b"\xff",
    )
    return chance.choice(makers)()


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_of_rubbish_becomes_letters_byte_for_byte(tmp_path: Path, broker: Mosquitto) -> None:
    chance = random.Random(3)
    good = records(1000)
    bad = [rubbish(chance, place) for place in range(1000)] + [b'"' + b"x" * (1 << 20) + b'"'] * 3
    mixed = good + bad
    chance.shuffle(mixed)
    with (
        RunningSegment(two_stages(tmp_path, broker.port, "def handler(data): return data"), tmp_path / "w") as process,
        Peer(broker.port) as peer,
    ):
        peer.subscribe("t/out")
        process.until("ready")
        before = memory_bytes(process.process.pid)
        peer.publish("t/in", *mixed)
        peer.until(1000)
        wait_until(lambda: process.counters("a")["dead_lettered"] == len(bad), "every letter")
        assert sorted(map(payload, letters(process))) == sorted(bad)
        assert sorted(peer.payloads) == sorted(good)
        assert memory_bytes(process.process.pid) - before < 50e6
        assert process.process.poll() is None
        assert process.log().count("\n") < 500


ABSURD = """
import sys
class Unspeakable(Exception):
    def __str__(self): raise RuntimeError("no words")
def deep(n): return deep(n + 1)
def endless(data):
    while True: yield data
class Own: pass
loop = []; loop.append(loop)
def handler(data):
    n = data["n"]
    if n == 1: sys.exit(0)
    if n == 2: raise KeyboardInterrupt
    if n == 3: raise MemoryError
    if n == 4: return deep(0)
    if n == 5: raise GeneratorExit
    if n == 6: raise Unspeakable
    if n == 7: return Own()
    if n == 8: return "x" * 200_000_000
    if n == 9: return loop
    if n == 10: return {1: float("nan")}
    if n == 11: return "\\ud800"
    if n == 12: return endless(data)
    if n == 13: return 1 << 100
    if n == 14: raise ValueError("y" * 50_000_000)
    return data
"""


def test_whatever_a_handler_raises_or_returns_the_process_goes_on(tmp_path: Path, broker: Mosquitto) -> None:
    spec = two_stages(tmp_path, broker.port, ABSURD, OnErrorSpec(retries=1, queue="trash"))
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer, Peer(broker.port) as bin_:
        peer.subscribe("t/out")
        bin_.subscribe("t/trash")
        process.until("ready")
        peer.publish("t/in", *records(20))
        peer.until(6)
        wait_until(lambda: process.counters("b")["dead_lettered"] == 14, "every letter")
        found = {number(each): each["reason"] for each in letters(process)}
        assert sorted(found) == list(range(1, 15))
        assert (found[1], found[3]) == ("SystemExit: 0", "MemoryError")
        assert all(len(reason) < 1100 for reason in found.values())
        assert sorted(bin_.payloads) == sorted(each for each in records(20) if 1 <= json.loads(each)["n"] <= 14)
        assert [json.loads(each)["n"] for each in peer.payloads] == [0, *range(15, 20)]
        assert process.process.poll() is None
        assert process.terminate() == Exit.DONE


def test_letters_are_replayed_through_the_running_segment(tmp_path: Path, broker: Mosquitto) -> None:
    fussy = "def handler(data):\n    assert data['n'] % 10, 'round'\n    return data"
    spec = two_stages(tmp_path, broker.port, fussy, OnErrorSpec(retries=0))
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        peer.subscribe("t/out")
        process.until("ready")
        peer.publish("t/in", *records(30))
        wait_until(lambda: process.counters("b")["dead_lettered"] == 3, "the letters")
        assert process.ask("replay", letters=[1])["accepted"] == 1
        wait_until(lambda: letters(process)[0]["last_at"] > letters(process)[0]["first_at"], "it failed again")
        assert process.terminate() == Exit.DONE
        killer = "import os\ndef handler(data):\n    if data['n'] == 20: os.abort()\n    return data"
        write_code(tmp_path / "last", killer)
        process.__enter__()
        process.until("ready")
        assert process.ask("replay", letters=[1, 2, 99])["accepted"] == 2
        wait_until(lambda: [each["number"] for each in letters(process, "list")] == [3], "two passed and are gone")
        assert {0, 10} <= arrived(peer)
        with contextlib.suppress(ValueError, ConnectionError):  # it may die before it answers
            process.ask("replay", letters=[3])
        assert process.wait() == -signal.SIGABRT
        process.__enter__()
        process.until("ready")
        (letter,) = letters(process)
        assert letter["reason"] == "the process died while this record was in it (replayed)"
        assert (letter["attempts"], letter["stage"]) == (1, "b")
        assert letters(process, "discard", "3") == [{"discarded": 1}]
        assert letters(process, "purge") == [{"discarded": 0}]
        assert not (process.folder / "dead-letters.db").exists()


def test_letters_that_cannot_be_kept_hold_their_message_at_the_broker(tmp_path: Path, broker: Mosquitto) -> None:
    spec = two_stages(tmp_path, broker.port, "def handler(data): return data")
    (tmp_path / "w" / "dead-letters.db").mkdir(parents=True)
    with RunningSegment(spec, tmp_path / "w") as process, Peer(broker.port) as peer:
        process.until("ready")
        peer.publish("t/in", b"rubbish", *records(200))
        wait_until(lambda: "dead-letters.db" in process.ask("status")["reason"], "the reason")
        assert process.counters("a")["dead_lettered"] == 0
        process.kill()
        (process.folder / "dead-letters.db").rmdir()
        peer.subscribe("t/out")
        process.__enter__()
        wait_until(lambda: len(arrived(peer)) == 200, "the rest goes on")
        assert [payload(each) for each in letters(process)] == [b"rubbish"]
