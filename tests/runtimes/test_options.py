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
    table = {**options.FRAMEWORK_REQUIREMENTS, **options.CONNECTOR_REQUIREMENTS, "mqtt": options.PAHO_REQUIREMENTS}
    assert list(table[name]) == EXTRAS[name]


def test_everything_that_can_be_named_says_what_it_needs() -> None:
    assert set(options.FRAMEWORK_REQUIREMENTS) == set(options.FRAMEWORKS)
    assert set(options.CONNECTOR_REQUIREMENTS) == set(options.CONNECTORS)
    assert set(options.RUNTIME_REQUIREMENTS) <= set(PROJECT["dependencies"])


def test_mqtt_needs_a_library_only_where_the_document_asks_for_it() -> None:
    assert options.connector_requirements("mqtt", {}) == ()
    assert options.connector_requirements("mqtt", {"client": "paho"}) == ("paho-mqtt>=2.0,<3",)
    assert options.connector_requirements("websocket", {}) == options.CONNECTOR_REQUIREMENTS["websocket"]
