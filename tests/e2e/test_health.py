"""Real handlers that hang, that are only slow, and that cannot start: which of them the agent ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.results.collector import Collector
from support.results.producer import publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(240)]

ID = "health"
LIVE_S = 3.0

HANGS_ONCE = """
import collections, itertools, pathlib
MARK = pathlib.Path({mark!r})
def handler(data):
    if data["n"] == 5 and not MARK.exists():
        MARK.touch()
        {hang}
    return data
"""
HOLDS_THE_INTERPRETER = "collections.deque(itertools.repeat(0), maxlen=0)"

SLOW = """
import collections, itertools, time
time.sleep({load_s})
collections.deque(itertools.repeat(0, {held}), maxlen=0)
def handler(data):
    time.sleep(0.8)
    return data
"""

CRASHES = """
import os, pathlib, threading, time
def crash():
    while not pathlib.Path({mark!r}).exists():
        time.sleep(0.05)
    print("on the edge", flush=True)
    os._exit(3)
threading.Thread(target=crash, daemon=True).start()
def handler(data):
    return data
"""


def _document(folder: Path, port: int, source: str, **health: float) -> str:
    write_code(folder / "code", source)
    queues = {f"q{n}": a_queue(f"health/{n}", port=port) for n in (1, 2)}
    stage = a_stage("q1", "q2", health=health)
    return str(write_json(folder / "p.json", {"version": "1.0", "id": ID, "pipeline": {"a": stage}, "queues": queues}))


def _numbers(first: int, last: int) -> list[bytes]:
    return [json.dumps({"n": n}).encode() for n in range(first, last)]


@pytest.mark.parametrize("hang", ["while True: pass", HOLDS_THE_INTERPRETER], ids=["loops", "holds the interpreter"])
def test_a_stuck_handler_is_found_and_started_again(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster, hang: str
) -> None:
    source = HANGS_ONCE.format(mark=str(tmp_path / "hung"), hang=hang)
    one_node.coord("submit", _document(tmp_path, broker.port, source, live=LIVE_S))
    pid = one_node.stage(ID, "a")["pid"]
    with Collector(broker.port, "health/2") as collector:
        publish(broker.port, "health/1", _numbers(0, 20))
        wait_for("every record, the one it hung on too", lambda: len(collector.numbers()) == 20, 60)
    seen = wait_for("ready again", lambda: (row := one_node.stage(ID, "a"))["state"] == "ready" and row)
    assert seen["pid"] != pid
    assert seen["restarts"] == 1
    assert "stage a: no progress for 3 s (health.live)" in one_node.agents["edge_node"].log


def test_what_is_slow_is_not_stuck(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    """A load longer than `live`, a handler that takes most of it for each record, a broker that is away."""
    source = SLOW.format(load_s=2 * LIVE_S, held=10**8)
    one_node.coord("submit", _document(tmp_path, broker.port, source, live=LIVE_S))
    pid = one_node.stage(ID, "a")["pid"]
    with Collector(broker.port, "health/2") as collector:
        publish(broker.port, "health/1", _numbers(0, 8))
        wait_for("every record", lambda: len(collector.numbers()) == 8, 60)
    broker.stop()
    away = wait_for("it says so", lambda: (row := one_node.stage(ID, "a"))["reason"] and row)
    assert away["state"] == "ready"
    wait_for("longer than `live`", _after(LIVE_S + 2.0))
    broker.start()
    with Collector(broker.port, "health/2") as collector:
        publish(broker.port, "health/1", _numbers(8, 10))
        wait_for("it works on", lambda: len(collector.numbers()) == 2, 60)
    seen = one_node.stage(ID, "a")
    assert (seen["pid"], seen["restarts"]) == (pid, 0)


def test_a_load_that_never_ends_fails_the_submit_with_the_deadline(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    source = "import time\ntime.sleep(3600)\ndef handler(data):\n    return data\n"
    done = one_node.coord("submit", _document(tmp_path, broker.port, source, startup=4), check=False)
    assert done.returncode == 5
    assert "the check did not finish within 4 s (health.startup)" in done.stdout + done.stderr


def test_a_crash_loop_is_shown_with_its_last_lines(tmp_path: Path, broker: Mosquitto, one_node: Cluster) -> None:
    mark = tmp_path / "crash"
    one_node.coord("submit", _document(tmp_path, broker.port, CRASHES.format(mark=str(mark))))
    mark.touch()

    def row() -> dict[str, Any] | None:
        found = one_node.stage(ID, "a")
        return found if found["state"] == "restarting" else None

    seen = wait_for("it is seen down", row, 60)
    assert seen["reason"] == "ended with exit code 3"
    assert "on the edge" in seen["last_lines"]


def _after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until
