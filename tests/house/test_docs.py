"""What the README promises exists, and what exists is in the README."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from fogline.wire.errors import CATALOGUE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands() -> dict[str, str]:
    """Every command of `coord`, groups unfolded, with its help text."""
    import typer.main

    app: Any = importlib.import_module("fogline.coordinator.cli.app").app
    return unfold("coord", typer.main.get_command(app))


def unfold(name: str, command: Any) -> dict[str, str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return {name: command.help or ""}
    found: dict[str, str] = {}
    for each, below in inner.items():
        found |= unfold(f"{name} {each}", below)
    return found


def undocumented(names: list[str], text: str) -> list[str]:
    return [name for name in names if f"`{name}" not in text]


def exit_codes(text: str) -> dict[str, int]:
    """Kind -> number, from the table rows `| 2 | invalid-document, ... | meaning |`."""
    rows = re.findall(r"^\| (\d+) \| ([a-z, -]+) \|", text, re.MULTILINE)
    return {kind.strip(): int(number) for number, kinds in rows for kind in kinds.split(",")}


def test_every_command_is_in_the_readme_and_explains_itself() -> None:
    found = commands()
    assert undocumented(list(found), README) == []
    assert [name for name, text in found.items() if not text.strip()] == []


def test_the_readme_names_no_command_that_is_not_there() -> None:
    named = {f"coord {word}" for word in re.findall(r"^\| `coord ([a-z-]+)", README, re.MULTILINE)}
    assert named
    assert named - set(commands()) == set()


def test_exit_codes_in_the_readme_are_those_of_the_catalogue() -> None:
    assert exit_codes(README) == {kind.value: entry.exit_code for kind, entry in CATALOGUE.items()}


def test_a_forgotten_command_is_noticed() -> None:
    assert undocumented(["coord plan", "coord tap"], "| `coord plan FILE` | shows |") == ["coord tap"]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("examples/*/README.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []
