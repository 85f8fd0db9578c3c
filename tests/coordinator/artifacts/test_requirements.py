"""requirements.txt of a code folder: what is taken, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fogline.coordinator.artifacts.requirements import read_requirements
from fogline.coordinator.artifacts.resolve import resolve
from fogline.coordinator.padl.parse import load
from support.padl_files import a_document, written

TAKEN = """\
\ufeff# what the stage needs
numpy>=1.26,<3   # a comment behind it
Pandas[excel] >= 2 ; python_version >= "3.11"
six==1.17.0 \\
    --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274 \\
    --hash sha256:ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81
\\

joblib \\"""


def given(folder: Path, text: str) -> Path:
    (folder / "requirements.txt").write_text(text, "utf-8")
    return folder


def test_packages_comments_continued_lines_and_hashes_are_taken(tmp_path: Path) -> None:
    lines, problems = read_requirements(given(tmp_path, TAKEN))
    assert problems == []
    assert lines == ("numpy<3,>=1.26", 'Pandas[excel]>=2; python_version >= "3.11"', "six==1.17.0", "joblib")


def test_a_folder_without_the_file_asks_for_nothing(tmp_path: Path) -> None:
    assert read_requirements(tmp_path) == ((), [])


@pytest.mark.parametrize(
    ("line", "said", "advice"),
    [
        ("-e ../lib", "-e names an editable install", "write its packages into this file"),
        ("-r more.txt", "-r names another file", "write its packages into this file"),
        ("--constraint=c.txt", "--constraint names a file of constraints", "write its packages"),
        ("--index-url https://x/simple", "--index-url is not taken from here", "pip config set"),
        ("-f wheels", "-f is not taken from here", "pip config set"),
        ("--pre", "--pre is not understood", "remove it"),
        ("https://x/y.whl", "is an address", "one package a line"),
        ("./lib", "is an address", "one package a line"),
        ("lib @ https://x/y.whl", "lib is named by an address", "put the package into an index"),
        ("numpy>>1", "'numpy>>1' is not a requirement", "one package a line"),
        ("numpy --no-binary :all:", "'--no-binary' after a package", "only --hash"),
    ],
)
def test_everything_else_is_refused_with_its_line(tmp_path: Path, line: str, said: str, advice: str) -> None:
    lines, [(message, hint)] = read_requirements(given(tmp_path, f"six\n\n{line}\n"))
    assert lines == ("six",)
    assert message.startswith(f"{tmp_path}/requirements.txt:3: ")
    assert said in message
    assert advice in hint


def test_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"numpy # gr\xfc\xdfe\n")
    _, [(message, _)] = read_requirements(tmp_path)
    assert message == f"{tmp_path}/requirements.txt is not UTF-8"


def test_they_are_found_with_the_stages_of_a_document(tmp_path: Path) -> None:
    for name in ("scale", "alarm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text("def handler(data): return data\n")
    (tmp_path / "judge.onnx").write_bytes(b"a model")
    given(tmp_path / "scale", "six\n")
    document = written(tmp_path, a_document())
    found = resolve(load([document])).requirements
    assert (found["scale"], found["alarm"]) == (("six",), ())
    given(tmp_path / "alarm", "-r x\n")
    [problem] = resolve(load([document])).problems
    assert (problem.pointer, problem.severity) == ("/pipeline/alarm/props/path", "error")
    assert "requirements.txt:1" in problem.message
