"""The JSON Schema knows every key and refuses nothing that `coord validate` accepts."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.schema import schema
from fogline.runtimes.options import CONNECTORS
from support.padl_files import a_document, with_value, without

VALIDATOR = jsonschema.Draft202012Validator(schema())

DISTRIBUTED: dict[str, Any] = {
    "version": "1.0",
    "id": "9",
    "containerized": True,
    "package-mode": "stream",
    "deploy-mode": "remote",
    "pipeline": {
        "clean": {
            "language": "python",
            "type": "code",
            "props": {"path": "git@forge.local:plant/clean.git", "entrypoint": "main.py", "function": "handler"},
            "queues": {"input": "in", "output": "mid"},
            "infra": "a",
        },
        "net": {
            "framework": "tensorflow",
            "type": "model",
            "props": {"path": "./net.h5", "input_format": "json", "serializer": "h5"},
            "queues": {"input": "mid", "output": "out"},
            "infra": "b",
        },
    },
    "queues": {
        "in": {"connector": "mqtt", "props": {"server": "broker_1", "port": 1883, "topic": "in"}},
        "mid": {"connector": "kafka", "props": {"server": "kafka_1", "port": 9092, "topic": "mid"}},
        "out": {"connector": "kafka", "props": {"server": "kafka_1", "port": 9092, "topic": "out"}},
    },
    "infra": {
        "a": {"hostname": "edge_1", "sshConfig": {"user": "u", "pass": "p", "port": 22}},
        "b": {"hostname": "cloud_1", "sshConfig": {"user": "u", "pass": "p", "port": 22}},
    },
}
SERVED: dict[str, Any] = {
    "version": "1.0",
    "package-mode": "api",
    "pipeline": {"net": {"framework": "onnx", "type": "model", "props": {"path": "/srv/net.onnx"}, "infra": "a"}},
}
FROM_MLFLOW: dict[str, Any] = {
    "version": "1.0",
    "pipeline": {"net": {"type": "model", "props": {"path": "./net"}, "queues": {"input": "in"}}},
    "queues": {"in": {"format": "json", "path": "mqtt://edge/in"}},
}
OLDER: dict[str, Any] = {
    "version": 1.0,
    "pipeline": {"net": {"model": "net.pkl", "queues": {"input": "in"}, "labels": {"a": "b"}}},
    "queues": {"in": {"format": "json", "path": "mqtt://edge/in"}},
}


def test_the_schema_is_one() -> None:
    VALIDATOR.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("document", [DISTRIBUTED, SERVED, FROM_MLFLOW, OLDER, a_document()])
def test_documents_of_every_form_are_valid(document: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors(document)) == []


@pytest.mark.parametrize(
    "document",
    [
        with_value(a_document(), "pipeline/scale/contraints", {}),
        with_value(a_document(), "pipeline/scale/restart", "never"),
        with_value(a_document(), "infra/gateway/sshConfig", {"port": 0}),
        without(a_document(), "version"),
        without(a_document(), "pipeline/scale/type"),
    ],
)
def test_mistakes_of_shape_are_not(document: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors(document)) != []


def test_every_key_is_described() -> None:
    parts = [schema(), *schema()["$defs"].values()]
    assert len(parts) > 12
    for part in parts:
        assert part["description"]
        assert all(entry.get("description") for entry in part["properties"].values())
    assert set(schema()["properties"]) == {field.alias or name for name, field in Document.model_fields.items()}


def test_editors_complete_the_options_of_a_connector() -> None:
    rules = {each["if"]["properties"]["connector"]["const"]: each for each in schema()["$defs"]["Queue"]["allOf"]}
    assert set(rules) == set(CONNECTORS)
    rule = rules["mqtt"]
    described = rule["then"]["properties"]["props"]["properties"]
    assert set(described) == {option.name for option in CONNECTORS["mqtt"]}
    assert "Not available yet" in described["group"]["description"]
    assert described["port"]["default"] == 1883
