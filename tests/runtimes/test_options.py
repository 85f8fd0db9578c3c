"""What the option tables promise besides options."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fogline.runtimes import options

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
BARE = {"code", "file"}
"""What no extra is needed for."""


@pytest.mark.parametrize("name", sorted({*options.FRAMEWORKS, *options.CONNECTORS} - BARE))
def test_what_a_stage_needs_is_what_the_extra_of_that_name_brings(name: str) -> None:
    table = {
        **options.FRAMEWORK_REQUIREMENTS,
        **options.CONNECTOR_REQUIREMENTS,
        "mqtt": options.CLIENT_REQUIREMENTS["paho"],
    }
    assert list(table[name]) == EXTRAS[name]


def test_everything_that_can_be_named_says_what_it_needs() -> None:
    assert set(options.FRAMEWORK_REQUIREMENTS) == set(options.FRAMEWORKS)
    assert set(options.CONNECTOR_REQUIREMENTS) == set(options.CONNECTORS)
    assert set(options.RUNTIME_REQUIREMENTS) <= set(PROJECT["dependencies"])


def test_a_client_is_one_of_its_connector_and_needs_no_more_than_its_extra() -> None:
    named = {
        choice
        for table in options.CONNECTORS.values()
        for each in table or ()
        if each.name == "client"
        for choice in each.choices
    }
    assert set(options.CLIENT_REQUIREMENTS) <= named
    assert set(options.CLIENT_REQUIREMENTS["python"]) <= set(EXTRAS["kafka"])


def test_tensorflow_is_too_large_to_come_with_the_others() -> None:
    assert [line for line in (*EXTRAS["all"], *EXTRAS["dev"]) if "tensorflow" in line] == []
    assert "tflite" in EXTRAS["all"][0]
