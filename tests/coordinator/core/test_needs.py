"""What the environment of a segment must hold."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from fogline.coordinator.core.needs import lines_of, requirements_digest, segment_needs
from fogline.coordinator.padl.model import Document, Queue
from fogline.runtimes import options
from support.documents import a_queue, a_stage, document

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def a_queue_by(connector: str, **props: Any) -> dict[str, Any]:
    return {"connector": connector, "props": {"server": "s", "port": 1, "topic": "t", **props}}


def a_document(**queues: Any) -> Document:
    """Stage a reads `in`, stage b is a model and reads `mid`; both write `out`."""
    model = {"type": "model", "framework": "sklearn", "props": {"path": "m.joblib"}}
    stages = {"a": a_stage("in", "out"), "b": model | {"queues": {"input": "mid", "output": "out"}}}
    given = {name: a_queue(name) for name in ("in", "mid", "out")} | queues
    return document({"version": "1.0", "id": "p", "pipeline": stages, "queues": given})


def lines(made: Document, *stages: str, **own: tuple[str, ...]) -> list[str]:
    return lines_of(segment_needs(made, stages, own, {}))


def test_only_what_the_segment_uses_is_needed() -> None:
    assert lines(a_document(), "a") == ["orjson>=3.9"]
    assert lines(a_document(), "b") == ["joblib>=1.3", "numpy>=1.26", "orjson>=3.9", "scikit-learn>=1.4"]
    made = a_document(**{"in": a_queue_by("websocket")})
    assert lines(made, "a") == ["orjson>=3.9", "websockets>=12"]
    assert "websockets>=12" not in lines(made, "b")


def test_the_client_of_a_queue_decides() -> None:
    assert "paho-mqtt>=2.0,<3" in lines(a_document(out=a_queue_by("mqtt", client="paho")), "a")
    assert lines(a_document(out=a_queue_by("mqtt", client="lean")), "a") == ["orjson>=3.9"]
    assert lines(a_document(out=a_queue_by("kafka", client="python")), "a") == ["kafka-python>=3.0,<4", "orjson>=3.9"]
    for props in ({}, {"client": "confluent"}):
        found = lines(a_document(out=a_queue_by("kafka", **props)), "a")
        assert [each.split(">")[0] for each in found] == ["confluent-kafka", "kafka-python", "orjson"]


def test_the_queue_of_dead_letters_and_automatic_queues_count() -> None:
    stages = {
        "a": a_stage("in", "b", **{"on-error": {"then": "dead-letter", "queue": "dead"}}),
        "b": a_stage("a", "out"),
    }
    queues = {"in": a_queue("i"), "out": a_queue("o"), "dead": a_queue_by("websocket", role="connect")}
    made = document({"version": "1.0", "id": "p", "pipeline": stages, "queues": queues})
    assert "websockets>=12" in lines(made, "a")
    assert lines(made, "b") == ["orjson>=3.9"]
    cut = {("a", "b"): Queue(connector="mqtt", props={"client": "paho"})}
    assert "paho-mqtt>=2.0,<3" in lines_of(segment_needs(made, ["b"], {}, cut))


def test_who_asks_is_told_and_does_not_change_the_digest() -> None:
    one = segment_needs(a_document(), ["a"], {"a": ("numpy<2",)}, {})
    assert [(need.line, need.by) for need in one] == [("numpy<2", "stage a"), ("orjson>=3.9", "Fogline")]
    other = segment_needs(a_document(), ["a"], {"a": ("numpy<2", "numpy<2")}, {})
    assert requirements_digest(one) == requirements_digest(other)
    assert requirements_digest(one) != requirements_digest(segment_needs(a_document(), ["a"], {}, {}))


def test_the_tables_ask_for_what_the_extras_do() -> None:
    extras = PYPROJECT["optional-dependencies"]
    for name, wanted in {**options.FRAMEWORK_REQUIREMENTS, **options.CONNECTOR_REQUIREMENTS}.items():
        assert not wanted or sorted(wanted) == sorted(extras[name]), name
    assert list(options.CLIENT_REQUIREMENTS["paho"]) == extras["mqtt"]
    assert set(options.CLIENT_REQUIREMENTS["python"]) <= set(extras["kafka"])
    assert set(options.RUNTIME_REQUIREMENTS) <= set(PYPROJECT["dependencies"])
