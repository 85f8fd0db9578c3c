"""`coord new`: what it makes works as it is."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from support.cluster import BIN


def coord(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(BIN / "coord"), *arguments]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.e2e
def test_the_commands_it_prints_work(tmp_path: Path) -> None:
    made = coord(tmp_path, "new", "Plant-7")
    assert (made.returncode, made.stderr) == (0, "")
    test, run = [shlex.split(line)[1:] for line in made.stdout.splitlines() if line.startswith("  coord ")]
    assert (test[0], run[0]) == ("test", "run")
    tried = coord(tmp_path, *test)
    assert (tried.returncode, tried.stderr) == (0, "press is hot\npress is hot\n2 records, as expected\n")
    ran = coord(tmp_path, *run)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = [(tmp_path / "Plant-7" / name).read_text().splitlines() for name in ("alarms.jsonl", "expected.jsonl")]
    assert [json.loads(line) for line in lines[0]] == [json.loads(line) for line in lines[1]]
    valid = coord(tmp_path, "validate", "Plant-7/pipeline.json")
    assert valid.stdout == "valid (errors: 0, warnings: 0)\n"
    files = [path for path in (tmp_path / "Plant-7").rglob("*.*") if path.parent.name != "__pycache__"]
    made_of = {str(path.relative_to(tmp_path / "Plant-7")) for path in files}
    assert made_of - {"alarms.jsonl"} == {
        "pipeline.json",
        "README.md",
        "sample.jsonl",
        "expected.jsonl",
        "handler/main.py",
        "handler/requirements.txt",
    }
    assert "NAME" not in "".join(path.read_text() for path in files)
    assert json.loads((tmp_path / "Plant-7" / "pipeline.json").read_text())["id"] == "Plant-7"


@pytest.mark.e2e
def test_the_comparison_is_one(tmp_path: Path) -> None:
    coord(tmp_path, "new", "plant")
    main = tmp_path / "plant" / "handler" / "main.py"
    main.write_text(main.read_text().replace("LIMIT = 80.0", "LIMIT = 90.0"))
    argv = ["plant/pipeline.json", "--input", "plant/sample.jsonl", "--expect", "plant/expected.jsonl"]
    tried = coord(tmp_path, "test", *argv)
    assert (tried.returncode, "record 1 differs" in tried.stderr) == (1, True)


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["a/b", "../a", ".", "-x", "a b", "", "a" * 64, "/tmp/a"])
def test_a_name_is_that_of_a_pipeline(tmp_path: Path, name: str) -> None:
    done = coord(tmp_path, "new", "--", name)
    assert done.returncode == 2
    assert "cannot name a pipeline; allowed: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plant").mkdir()
    (tmp_path / "mine").write_text("mine")
    for name in ("plant", "mine"):
        done = coord(tmp_path, "new", name)
        assert (done.returncode, done.stderr) == (
            2,
            f"coord: {name} is there already: choose another name, or remove it\n",
        )
    assert list((tmp_path / "plant").iterdir()) == []
    assert (tmp_path / "mine").read_text() == "mine"
