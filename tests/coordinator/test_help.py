"""What the two commands say to a stranger: without arguments, asked for help, and given a wrong word."""

from __future__ import annotations

import subprocess
import sys

import pytest

COORD = [sys.executable, "-m", "fogline.coordinator.cli.app"]
AGENT = [sys.executable, "-m", "fogline.agent.cli"]


def said(command: list[str], *arguments: str) -> tuple[int, str]:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize(("arguments", "code"), [((), 2), (("-h",), 0), (("--help",), 0)])
def test_coord_shows_its_commands_under_headings(arguments: tuple[str, ...], code: int) -> None:
    got, text = said(COORD, *arguments)
    assert got == code
    assert "coord COMMAND --help" in text
    lines = text.splitlines()
    documents, records = lines.index("Documents, without any daemon:"), lines.index("Records:")
    named = [line.split()[0] for line in lines[documents:] if line.startswith("  ")]
    assert named[:2] == ["new", "validate"]
    assert lines[records + 1].split()[:2] == ["send", "Put"]
    assert len(named) == len(set(named)) > 15


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sumbit",), "Did you mean 'submit'?"),
        (("submit", "--detatch", "x.json"), "--detach"),
        (("--verson",), "--version"),
        (("submit",), "Missing argument 'FILE'"),
        (("test", "x.json", "--inptu", "y"), "--input"),
        (("plan", "x.json", "--output", "jsn"), "'table', 'json'"),
    ],
)
def test_a_wrong_word_for_coord_names_the_right_one(arguments: tuple[str, ...], sentence: str) -> None:
    code, text = said(COORD, *arguments)
    assert code == 2
    assert sentence in text
    assert "-h' for help" in text


def test_every_command_of_coord_has_an_example() -> None:
    from typer.main import get_command

    from fogline.coordinator.cli.app import app

    commands = getattr(get_command(app), "commands", {})
    assert [name for name, each in commands.items() if f"Example: coord {name}" not in (each.help or "")] == []


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 2, "name a command: run, adopt"),
        (("-h",), 0, "fogline-agent COMMAND --help"),
        (("run", "--help"), 0, "--coordinator HOST:PORT"),
        (("rnu",), 2, "did you mean run?"),
        (("run", "--nmae", "x"), 2, "there is no option --nmae; did you mean --name?"),
        (("run",), 2, "are required: --coordinator, --name, --layer, --state-dir"),
        (("adopt", "--state-dri=x"), 2, "did you mean --state-dir?"),
    ],
)
def test_the_agent_helps_likewise(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    got, text = said(AGENT, *arguments)
    assert got == code
    assert sentence in text
    assert code == 0 or "-h" in text
