"""`coord frameworks` and `coord connectors` say what the tables say, all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from fogline.coordinator.cli.app import app
from fogline.runtimes import options
from fogline.runtimes.plugins import Option
from fogline.wire.terms import ErrorKind, FoglineError

TABLES = {"frameworks": options.FRAMEWORKS, "connectors": options.CONNECTORS}
REQUIREMENTS = {"frameworks": options.FRAMEWORK_REQUIREMENTS, "connectors": options.CONNECTOR_REQUIREMENTS}


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def as_described(option: Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "type": option.kind,
        "required": option.required,
        "default": option.default,
        "choices": list(option.choices),
        "meaning": option.sentence,
        "example": option.example,
        "available": option.available,
    }


@pytest.mark.parametrize("command", TABLES)
def test_tools_get_every_option_of_every_one(command: str) -> None:
    found = json.loads(said(command, "--output", "json"))
    assert [each["name"] for each in found] == list(TABLES[command])
    for each in found:
        assert each["requires"] == list(REQUIREMENTS[command][each["name"]])
        assert each["built_in"]
        described = [{key: value for key, value in option.items() if key != "must_be"} for option in each["options"]]
        assert described == [as_described(option) for option in TABLES[command][each["name"]]]


@pytest.mark.parametrize("command", TABLES)
def test_people_get_a_line_for_each_and_a_table_of_one(command: str) -> None:
    lines = said(command).splitlines()
    assert [line.split()[0] for line in lines] == [command[:-1].upper(), *TABLES[command]]
    for name, table in TABLES[command].items():
        shown = said(command, name)
        assert shown.startswith(name)
        for option in table:
            assert option.sentence in shown
            assert f"example: {json.dumps({option.name: option.example})[1:-1]}\n" in shown


def test_an_alias_is_its_framework() -> None:
    assert json.loads(said("frameworks", "scikit-learn", "-o", "json"))["name"] == "sklearn"
    (sklearn,) = [line for line in said("frameworks").splitlines() if line.startswith("sklearn")]
    assert "scikit-learn" in sklearn.split()[1]
    assert "sklearn (also scikit-learn)\n  requires scikit-learn>=1.4\n" in said("frameworks", "sklearn")


def test_what_there_is_not_is_told_with_what_there_is() -> None:
    with pytest.raises(FoglineError, match="there is no connector 'ftp'; there are: mqtt, kafka") as caught:
        said("connectors", "ftp")
    assert caught.value.kind is ErrorKind.NOT_FOUND
