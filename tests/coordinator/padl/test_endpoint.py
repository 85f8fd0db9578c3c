"""API mode: options of the endpoint, and what says nothing where there are no queues."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.check import check
from fogline.coordinator.padl.parse import parse
from support.padl_files import with_value

A, B = "pipeline/a/", "pipeline/b/"
TOKEN = {"auth": "token", "token": {"secret": "callers"}}


def a_document(**changes: Any) -> dict[str, Any]:
    """Two stages linked by their names."""
    stage = {"type": "model", "framework": "sklearn", "props": {"path": "m.joblib"}}
    pipeline = {"a": {**stage, "queues": {"output": "b"}}, "b": {**stage, "queues": {"input": "a"}}}
    return {"version": "1.0", "id": "p", "package-mode": "api", "pipeline": pipeline, **changes}


def found(raw: dict[str, Any]) -> list[tuple[str, str, str]]:
    document, problems = parse(raw)
    assert document is not None, problems
    return [(each.severity, each.pointer, each.message) for each in [*check(document), *unavailable(document)]]


def test_the_first_stage_says_where_and_for_whom_it_listens() -> None:
    assert found(a_document()) == []
    assert found(with_value(a_document(), A + "props", {"path": "m.joblib", "port": 8080, **TOKEN})) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (A + "props/port", 70000, "port must be an integer between 1 and 65535, not 70000"),
        (A + "props/port", "8080", "port must be an integer between 1 and 65535, not '8080'"),
        (A + "props/auth", "token", "the login needs the token that callers bring"),
        (A + "props/token", {"secret": "callers"}, "a token says nothing without a login"),
        (B + "props/port", 8080, "'port' is about the endpoint, and the requests come to the first stage, 'a'"),
        (A + "replicas", 2, "in API mode a stage has one copy: nothing stands in front of several that would share"),
        (B + "replicas", "each", "in API mode a stage has one copy: nothing stands in front of several"),
        (A + "route", "kind", "in API mode stages form a chain, so there is nothing to choose among"),
        (B + "route", "kind", "in API mode stages form a chain, so there is nothing to choose among"),
        ("queues", {"q": {"connector": "mqtt", "guarantee": "at-least-once"}}, "a guarantee is a promise of queues"),
    ],
)
def test_what_is_wrong_there_is_told_with_its_place(path: str, value: Any, message: str) -> None:
    said = [each for each in found(with_value(a_document(), path, value)) if each[2].startswith(message)]
    pointer = "/queues/q/guarantee" if path == "queues" else f"/{path}"
    assert [(severity, place) for severity, place, _ in said] == [("error", pointer)]


def test_there_is_no_endpoint_in_stream_mode() -> None:
    queues = {name: {"connector": "mqtt", "props": {"server": "localhost", "topic": name}} for name in ("in", "out")}
    props = {"path": "m.joblib", "port": 8080}
    stage = {"type": "model", "framework": "sklearn", "props": props, "queues": {"input": "in", "output": "out"}}
    said = found({"version": "1.0", "id": "p", "pipeline": {"a": stage}, "queues": queues})
    message = "'port' is about the endpoint of API mode, and in stream mode there is none"
    assert said == [("error", "/pipeline/a/props/port", message)]


def test_an_error_goes_to_the_caller_and_nowhere_else() -> None:
    queues = {"q": {"connector": "mqtt", "props": {"server": "localhost", "topic": "t"}}}
    on_error = {"retries": 1, "queue": "q"}
    refused = found(with_value(a_document(queues=queues), A + "on-error", on_error))
    message = "in API mode the caller gets the error, and there are no queues"
    assert refused == [("error", "/pipeline/a/on-error/queue", message)]
    ((severity, place, _),) = found(with_value(a_document(), A + "on-error", {"retries": 1}))
    assert (severity, place) == ("warning", "/pipeline/a/on-error")
