"""A segment between files, as a real process: it ends with its input, and says what it counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.letter_file import LetterFile
from fogline.runtimes.spec import EndpointSpec, Exit, SegmentSpec
from support.segments import RunningSegment, code_stage, command, segment, wait_until, write_code

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

CODE = """\
import time

def handler(data):
    time.sleep(PAUSE)
    return None if data["n"] % 10 == 3 else {"n": data["n"] + 1}
"""


def a_segment(folder: Path, pause_s: float = 0.0) -> SegmentSpec:
    write_code(folder / "code", CODE.replace("PAUSE", str(pause_s)))
    reads = {"path": str(folder / "*.csv"), "format": "csv", "delimiter": ","}
    writes = {"path": str(folder / "out.jsonl"), "format": "json", "delimiter": ","}
    source = EndpointSpec("q1", "s", "file", reads, "fogline.test.p.s.q1.0", "fogline.test.p.s.q1")
    sink = EndpointSpec("q2", "s", "file", writes, "fogline.test.p.s.q2.0.w")
    return segment(code_stage("s", folder / "code", "q1", "q2"), sources=(source,), sinks=(sink,), max_size=8)


def write_rows(folder: Path, count: int, *more: str) -> None:
    (folder / "in.csv").write_text("\n".join(["n", *map(str, range(count)), *more]) + "\n")


def results(folder: Path) -> list[int]:
    return [json.loads(line)["n"] for line in (folder / "out.jsonl").read_text().splitlines()]


def finished(process: RunningSegment) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((process.folder / "finished.json").read_text())
    return found


def test_it_ends_with_its_input_and_says_what_it_counted(tmp_path: Path) -> None:
    write_rows(tmp_path, 50, "no,row")
    with RunningSegment(a_segment(tmp_path), tmp_path / "work") as process:
        assert process.wait() == Exit.DONE, process.log()
    assert results(tmp_path) == [n + 1 for n in range(50) if n % 10 != 3]
    told = finished(process)
    assert told["reason"] == "end of input: 51 in, 45 out, 1 dead-lettered"
    assert told["stages"][0]["counters"]["filtered"] == 5
    (letter,) = LetterFile(tmp_path / "work" / "dead-letters.db").show()
    assert (letter["payload"], letter["id"]) == (b"no,row", f"{tmp_path}/in.csv:52")


def test_started_again_it_reads_what_came_since(tmp_path: Path) -> None:
    write_rows(tmp_path, 3)
    spec = a_segment(tmp_path)
    for _ in range(2):
        with RunningSegment(spec, tmp_path / "work") as process:
            assert process.wait() == Exit.DONE, process.log()
    assert results(tmp_path) == [1, 2, 3]
    with (tmp_path / "in.csv").open("a") as file:
        file.write("7\n")
    with RunningSegment(spec, tmp_path / "work") as process:
        assert process.wait() == Exit.DONE, process.log()
    assert results(tmp_path) == [1, 2, 3, 8]


def test_drained_in_the_middle_it_has_not_finished(tmp_path: Path) -> None:
    write_rows(tmp_path, 500)
    spec = a_segment(tmp_path, 0.01)
    with RunningSegment(spec, tmp_path / "work") as process:
        wait_until(lambda: (tmp_path / "out.jsonl").exists() and len(results(tmp_path)) > 20, "results")
        assert process.terminate() == Exit.DONE
        assert not (process.folder / "finished.json").exists()
    some = results(tmp_path)
    assert 20 < len(some) < 450
    write_code(tmp_path / "code", CODE.replace("PAUSE", "0"))
    with RunningSegment(spec, tmp_path / "work") as process:
        assert process.wait() == Exit.DONE, process.log()
    assert results(tmp_path) == [n + 1 for n in range(500) if n % 10 != 3]
    assert finished(process)["stages"][0]["counters"]["redelivered"] == 0


def test_it_waits_for_a_disk_however_long_after_the_end_of_its_input(tmp_path: Path) -> None:
    write_rows(tmp_path, 5)
    (tmp_path / "out").mkdir()
    spec = a_segment(tmp_path)
    sink = spec.sinks[0]
    kept = EndpointSpec(sink.queue, sink.stage, "file", {**sink.options, "path": "/dev/full"}, sink.client_id)
    with RunningSegment(segment(*spec.stages, sources=spec.sources, sinks=(kept,)), tmp_path / "work") as process:
        process.until("ready")
        wait_until(lambda: "No space left" in process.ask("status")["reason"], "the reason is shown")
        assert process.process.poll() is None


def test_release_and_publish_know_files(tmp_path: Path) -> None:
    write_rows(tmp_path, 5)
    spec = a_segment(tmp_path)
    with RunningSegment(spec, tmp_path / "work") as process:
        assert process.wait() == Exit.DONE
    assert len(list((tmp_path / "work" / "positions").iterdir())) == 1
    refused = command("publish", tmp_path / "work" / "spec.json", "--queue", "q1", stdin=b"1\n")
    assert refused.returncode == Exit.BAD_SPEC
    assert b"put the records into" in refused.stdout
    assert command("release", tmp_path / "work" / "spec.json").returncode == Exit.DONE
    assert list((tmp_path / "work" / "positions").iterdir()) == []
