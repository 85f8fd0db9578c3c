"""Without daemons: `coord run` and `coord demo` come and go and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.cluster import BIN, Process, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import free_port
from support.results.collector import Collector
from support.results.producer import publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]


def _left_behind(scratch: Path) -> list[str]:
    """Files in the scratch folder, and processes that were given a path in it."""
    found = [str(path) for path in scratch.iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # ended while we looked
            if str(scratch) in command:
                found.append(command)
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_run_starts_a_broker_where_none_answers_and_ends_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    port = free_port()
    write_code(tmp_path / "code", "def handler(data):\n    return {'n': data['n'] + 1}\n")
    stages = {"a": a_stage("q1", "q2", infra="far")}
    queues = {f"q{n}": a_queue(f"alone/{n}", port=port) for n in (1, 2)}
    document = {"version": "1.0", "id": "alone", "pipeline": stages, "queues": queues, "infra": {"far": {}}}
    write_json(tmp_path / "p.json", document)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run = Process("run", tmp_path, "coord", "run", str(tmp_path / "p.json"), env={"TMPDIR": str(scratch)})
    try:
        wait_for("it runs", lambda: "Ctrl-C ends it" in run.log or not run.running())
        assert f"started mosquitto on 127.0.0.1:{port}" in run.log
        with Collector(port, "alone/2") as collector:
            publish(port, "alone/1", [b'{"n": 1}'])
            wait_for("the record", lambda: collector.records)
        assert collector.records == [{"n": 2}]
    finally:
        code = run.end(how)
    assert code == 0, run.log
    assert _left_behind(scratch) == []
    assert "Traceback" not in run.log


def test_the_demo_finds_a_real_disturbance_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "coord"), "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("verdict: OK")
    assert '"anomaly": true' in done.stdout
    assert _left_behind(tmp_path) == []


def test_an_interrupted_demo_cleans_up(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    demo = Process("demo", tmp_path, "coord", "demo", env={"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"})
    wait_for("recording", lambda: "recording" in demo.log)
    assert demo.end(signal.SIGINT) == 130
    assert _left_behind(scratch) == []
    assert "Traceback" not in demo.log
