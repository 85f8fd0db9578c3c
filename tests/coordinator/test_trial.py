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
from support.package_index import make_wheel, only_index, wheel_of_installed


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


def coord_test(*arguments: object) -> tuple[int, str, str]:
    argv = [str(Path(sys.executable).parent / "coord"), "test", *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.e2e
def test_csv_and_the_files_of_the_document_are_read_as_a_segment_reads_them(tmp_path: Path) -> None:
    write_code(tmp_path / "code", "def handler(data):\n    return data['n'] + 1\n")
    reads = {"connector": "file", "props": {"path": "in/*.csv", "delimiter": ";"}}
    queues = {"q1": reads, "q2": {"path": "out.jsonl"}}
    raw = {"version": "1.0", "id": "t", "pipeline": {"a": a_stage("q1", "q2")}, "queues": queues}
    document = write_json(tmp_path / "p.json", raw)
    (tmp_path / "in").mkdir()
    code, _, said = coord_test(document)
    assert (code, f"queue q1: no file matches {tmp_path}/in/*.csv" in said) == (5, True)
    (tmp_path / "in" / "b.csv").write_text("x;n\na;3\n")
    (tmp_path / "in" / "a.csv").write_text("n\n1\n2\n")
    assert coord_test(document) == (0, "2\n3\n4\n", "")
    (tmp_path / "other.csv").write_text("n;x\n7;a\n8\n")
    code, out, said = coord_test(document, "--input", tmp_path / "other.csv")
    assert (code, out) == (5, "8\n")
    assert f"stage a failed on {tmp_path}/other.csv:3: 8" in said
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.e2e
def test_records_are_asked_for_where_the_first_queue_is_no_file(tmp_path: Path) -> None:
    write_code(tmp_path / "code", "def handler(data):\n    return data\n")
    queues = {"q1": a_queue("1"), "q2": a_queue("2")}
    raw = {"version": "1.0", "id": "t", "pipeline": {"a": a_stage("q1", "q2")}, "queues": queues}
    code, _, said = coord_test(write_json(tmp_path / "p.json", raw))
    assert code == 2
    assert "--input FILE names them, since queue q1 is not a file" in said


@pytest.mark.e2e
def test_what_is_not_installed_beside_coord_comes_with_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = write_code(tmp_path / "code", "import alpha\n\ndef handler(data): return [data, alpha.__version__]\n")
    queues = {"q1": a_queue("1"), "q2": a_queue("2")}
    raw = {"version": "1.0", "id": "t", "pipeline": {"a": a_stage("q1", "q2")}, "queues": queues}
    document = write_json(tmp_path / "p.json", raw)
    (tmp_path / "in.jsonl").write_text("4\n")
    with only_index(monkeypatch, tmp_path) as index:
        make_wheel(index, "alpha", "1.0")
        wheel_of_installed(index, "orjson")
        for lines, said in (("pytest\nno-such-package", "there is no package no-such-package"), ("alpha>=1", "")):
            (code / "requirements.txt").write_text(lines)
            code_, out, err = coord_test(document, "--input", tmp_path / "in.jsonl")
            assert (code_, out) == ((4, "") if said else (0, '[4,"1.0"]\n')), err
            assert said in err
            assert "running in an environment of its own" in err
            assert "Traceback" not in err
    (code / "requirements.txt").write_text("pytest")
    (code / "main.py").write_text("import pytest\n\ndef handler(data): return data\n")
    done = coord_test(document, "--input", tmp_path / "in.jsonl")
    said = "everything that its stages need is installed beside coord: running in coord's environment\n"
    assert done == (0, "4\n", said)
