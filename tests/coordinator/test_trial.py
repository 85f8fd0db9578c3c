"""`coord test` and the comparison behind `--expect`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.cli.trial import alike, first_difference
from support.cluster import write_code, write_json
from support.documents import a_queue, a_stage


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (1.0, 1.0 + 9e-7, True),
        (1.0, 1.0 + 3e-6, False),
        (1e9, 1e9 + 100, True),
        (True, 1, False),
        ("1", 1, False),
        ([1, {"a": 2}], [1, {"a": 2.0000001}], True),
        ([1], [1, 2], False),
        ({"a": 1}, {"b": 1}, False),
        (None, None, True),
    ],
)
def test_records_are_alike_within_the_tolerance(a: Any, b: Any, same: bool) -> None:
    assert alike(a, b) is same


def test_the_first_difference_is_named() -> None:
    assert first_difference([{"n": 1}], [{"n": 1}]) == ""
    assert "record 2 differs" in first_difference([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 3}])
    assert first_difference([1], [1, 2]) == "1 records came out, 2 were expected"


@pytest.mark.e2e
def test_an_exception_is_shown_with_the_users_own_lines(tmp_path: Path) -> None:
    write_code(tmp_path / "code", "def handler(data):\n    print('hello')\n    return 1 / data\n")
    stages = {"a": a_stage("q1", "q2")}
    queues = {"q1": a_queue("1"), "q2": a_queue("2")}
    document = write_json(tmp_path / "p.json", {"version": "1.0", "id": "t", "pipeline": stages, "queues": queues})
    (tmp_path / "in.jsonl").write_text("4\n0\n")
    argv = [str(Path(sys.executable).parent / "coord"), "test", str(document), "--input", str(tmp_path / "in.jsonl")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "0.25\n")
    assert "stage a failed on record 2: 0" in done.stderr
    assert f'File "{tmp_path}/code/main.py", line 3, in handler' in done.stderr
    assert "fogline" not in done.stderr.split("Traceback")[1]
    assert "ZeroDivisionError" in done.stderr
