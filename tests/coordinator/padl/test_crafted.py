"""Hundreds of documents gone wrong, by the command itself: never a traceback, always a place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fogline.coordinator.cli.app import app
from support.crafted import Crafted, crafted
from support.example import EXAMPLE
from support.padl_files import a_document, written

SOURCES = ["pipeline.json", "padl-1.0.yaml", "readme.json", "plant.json"]
EACH = 60
"""Mutations of each source; wrong settings and overlays come on top."""


def source(name: str, folder: Path) -> Path:
    """One of the example's documents, or a sound one of the tests'."""
    if name == "plant.json":
        return written(folder, a_document(), name)
    if name == "readme.json":
        readme = (EXAMPLE.parents[1] / "README.md").read_text()
        return written(folder, readme.partition("```json\n")[2].partition("```")[0], name)
    return EXAMPLE / name


def cases(name: str, folder: Path) -> list[Crafted]:
    return list(crafted(folder, source(name, folder), EACH, seed=name))


def judged(each: Crafted, code: int, output: str) -> int:
    """The number of problems shown, after making sure that each has a place."""
    assert code in (0, 2), (each, output)
    answer = json.loads(output)
    assert answer["valid"] == (code == 0), each
    assert code == 0 or any(problem["severity"] == "error" for problem in answer["problems"]), each
    for problem in answer["problems"]:
        assert problem["file"], (each, problem)
        assert problem["line"] > 0 or not problem["pointer"], (each, problem)
        assert problem["message"], (each, problem)
    return len(answer["problems"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SOURCES)
def test_no_document_brings_it_down(name: str, tmp_path: Path) -> None:
    runner = CliRunner()
    refused = 0
    found = cases(name, tmp_path)
    for each in found:
        done = runner.invoke(app, ["validate", *each.arguments, "--output", "json"])
        assert done.exception is None or isinstance(done.exception, SystemExit), (each, done.exception)
        judged(each, done.exit_code, done.stdout)
        refused += done.exit_code == 2
    assert len(found) * len(SOURCES) > 300
    assert refused > len(found) / 2, "most of them are wrong"


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(12))
def test_nor_as_a_process_of_its_own(number: int, tmp_path: Path) -> None:
    found = cases(SOURCES[number % len(SOURCES)], tmp_path)
    each = found[number * 7 % len(found)]
    if any("\0" in word for word in each.arguments):
        each = found[0]
    command = [sys.executable, "-m", "fogline.coordinator.cli.app", "validate", *each.arguments]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in shown.stderr
    assert shown.returncode in (0, 2)
    assert shown.returncode == 0 or ": error" in shown.stderr


def test_the_cases_are_the_same_every_time(tmp_path: Path) -> None:
    texts = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        cases("plant.json", folder)
        texts.append([each.read_bytes() for each in sorted(folder.iterdir())])
    assert texts[0] == texts[1]
