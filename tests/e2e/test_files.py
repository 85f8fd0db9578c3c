"""Pipelines between files: everything arrives whatever dies, the end of the input is a verdict, and it stays one."""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.cluster import BIN, Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "language-routing"
ROWS, KILLS = 6000, 4
CODE = """\
import time

def handler(data):
    time.sleep(0.001)
    if data["n"] == 7:
        raise ValueError("seven")
    return None if data["n"] % 5 == 0 else {"n": data["n"], "word": data["word"] + "!"}
"""


def expected(numbers: range) -> list[dict[str, Any]]:
    return [{"n": n, "word": f"w{n}!"} for n in numbers if n % 5 and n != 7]


def a_document(folder: Path, code: str = CODE) -> Path:
    """csv files -> stage -> JSON lines."""
    write_code(folder / "code", code)
    (folder / "in").mkdir(exist_ok=True)
    stages = {"a": a_stage("q1", "q2")}
    queues = {
        "q1": {"connector": "file", "props": {"path": str(folder / "in" / "*.csv")}},
        "q2": {"connector": "file", "props": {"path": str(folder / "out.jsonl")}},
    }
    document = {"version": "1.0", "id": "files", "pipeline": stages, "queues": queues}
    return write_json(folder / "p.json", document)


def write_rows(folder: Path, name: str, numbers: range) -> None:
    (folder / "in" / name).write_text("n,word\n" + "".join(f"{n},w{n}\n" for n in numbers))


def written(folder: Path) -> list[dict[str, Any]]:
    path = folder / "out.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def enough(folder: Path, count: float) -> bool:
    path = folder / "out.jsonl"
    return path.exists() and path.read_bytes().count(b"\n") > count


def finished(cluster: Cluster) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        found = cluster.status("files")
        return found if found["state"] == "finished" else None

    found: dict[str, Any] = wait_for("it has finished", done, 60.0)
    return found


def events(cluster: Cluster) -> list[str]:
    """The lines that tell of an end of input."""
    return [line for line in cluster.coord("events", "files").stdout.splitlines() if "end of input" in line]


def test_nothing_is_missing_whatever_kills_the_process_and_then_it_has_finished(
    tmp_path: Path, one_node: Cluster
) -> None:
    document = a_document(tmp_path)
    write_rows(tmp_path, "1.csv", range(ROWS // 2))
    write_rows(tmp_path, "2.csv", range(ROWS // 2, ROWS))
    one_node.coord("submit", str(document))
    for kill in range(1, KILLS + 1):
        wait_for("progress", partial(enough, tmp_path, kill * 0.15 * ROWS))
        pid = wait_for("a process", lambda: one_node.stage("files", "a")["pid"])
        os.kill(pid, signal.SIGKILL)
    status = finished(one_node)
    row = status["stages"][0]
    assert row["restarts"] == KILLS, status
    assert row["state"] == "finished"
    assert row["dead_lettered"] == 1
    found = collections.Counter(json.dumps(each) for each in written(tmp_path))
    assert sorted(found) == sorted(json.dumps(each) for each in expected(range(ROWS)))
    assert sum(found.values()) - len(found) <= row["redelivered"]
    assert "end of input" in status["reason"]


def test_the_verdict_stays_and_a_submit_reads_what_came_since(tmp_path: Path, one_node: Cluster) -> None:
    document = a_document(tmp_path)
    write_rows(tmp_path, "1.csv", range(10))
    submitted = one_node.coord("submit", str(document))
    assert "finished: end of input: 10 in, 7 out, 1 dead-lettered" in submitted.stdout
    before, told = finished(one_node), events(one_node)
    assert [word for line in told for word in ("copy", "verdict") if word in line] == ["copy", "verdict"]
    write_rows(tmp_path, "2.csv", range(10, 20))
    agent = one_node.agents["edge_node"]
    agent.end(signal.SIGKILL)
    agent.start()
    one_node.coordinator.end(signal.SIGKILL)
    one_node.coordinator.start()
    wait_for("the node is back", lambda: "edge_node" in one_node.connected())
    after = finished(one_node)
    assert after == before
    assert written(tmp_path) == expected(range(10))
    assert events(one_node) == told

    assert "revision 2 is finished: end of input: 10 in, 8 out" in one_node.coord("submit", str(document)).stdout
    assert written(tmp_path) == expected(range(20))
    assert "finished: end of input: 0 in, 0 out" in one_node.coord("start", "files").stdout
    assert one_node.coord("dead-letters", "files").stdout.count("seven") == 1
    one_node.coord("stop", "files")
    assert one_node.status("files")["state"] == "stopped"
    one_node.coord("delete", "files")
    one_node.coord("submit", str(document))
    finished(one_node)
    assert written(tmp_path) == [*expected(range(20)), *expected(range(20))]


@pytest.mark.broker
def test_a_segment_that_has_finished_leaves_the_others_running(
    tmp_path: Path, fleet: Cluster, broker: Mosquitto
) -> None:
    a_document(tmp_path, "def handler(data):\n    return {'n': data['n'] + 1}\n")
    stages = {
        "a": a_stage("q1", "q2", constraints={"node": {"layer": "edge"}}),
        "b": a_stage("q2", "q3", constraints={"node": {"layer": "cloud"}}),
    }
    queues = {
        "q1": {"connector": "file", "props": {"path": str(tmp_path / "in" / "*.csv")}},
        "q2": a_queue("files/2", port=broker.port),
        "q3": a_queue("files/3", port=broker.port),
    }
    write_json(tmp_path / "p.json", {"version": "1.0", "id": "files", "pipeline": stages, "queues": queues})
    write_rows(tmp_path, "1.csv", range(100))
    with Collector(broker.port, "files/3") as collector:
        fleet.coord("submit", str(tmp_path / "p.json"))
        wait_for("all records", lambda: len(collector.records) == 100)
    assert sorted(each["n"] for each in collector.records) == [n + 2 for n in range(100)]
    wait_for("a has finished", lambda: fleet.stage("files", "a")["state"] == "finished")
    status = fleet.status("files")
    assert (status["state"], fleet.stage("files", "b")["state"]) == ("running", "ready")
    assert fleet.stage("files", "a")["out"] == 100
    assert "unchanged" in fleet.coord("submit", str(tmp_path / "p.json")).stdout
    write_rows(tmp_path, "2.csv", range(100, 110))
    fleet.coord("restart", "files", "a")
    wait_for("what came since", lambda: fleet.stage("files", "a")["in"] == 110)


def run(folder: Path, *documents: str) -> subprocess.CompletedProcess[str]:
    argv = [str(BIN / "coord"), "run", *(str(folder / each) for each in documents or ("p.json",))]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_a_run_ends_by_itself_and_tells_of_dead_letters(tmp_path: Path) -> None:
    document = a_document(tmp_path)
    whole = json.loads(document.read_text())
    whole["queues"]["q1"]["props"]["path"] = "in/*.csv"
    whole["queues"]["q2"]["props"]["path"] = "out.jsonl"
    write_json(document, whole)
    write_rows(tmp_path, "1.csv", range(10, 100))
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished: end of input: 90 in, 72 out" in done.stdout
    assert written(tmp_path) == expected(range(10, 100))
    write_rows(tmp_path, "1.csv", range(10))
    done = run(tmp_path)
    assert done.returncode == 5, done.stdout + done.stderr
    assert f"dead letter {tmp_path}/in/1.csv:9" in done.stderr
    assert "seven" in done.stderr


def test_the_example_runs_between_files(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "example"))
    done = run(folder, "pipeline.json", "files.json")
    assert done.returncode == 0, done.stdout + done.stderr
    scored = [json.loads(line) for line in (folder / "scored.jsonl").read_text().splitlines()]
    assert sorted(each["id"] for each in scored) == [1, 2, 3, 5]
    assert (folder / "other.csv").read_text().splitlines()[1].startswith("4,")
