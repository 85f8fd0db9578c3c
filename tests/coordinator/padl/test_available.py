"""What is known and not built yet is refused by name; what is built is not."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.padl.available import is_remote, unavailable
from fogline.coordinator.padl.check import check
from fogline.coordinator.padl.parse import parse
from support.padl_files import a_document, with_value

SCALE, JUDGE, RAW = "pipeline/scale", "pipeline/judge", "queues/raw"

REFUSED: list[tuple[str, Any, str]] = [
    ("rollout", {"strategy": "canary"}, "the key 'rollout'"),
    ("monitoring", {}, "the key 'monitoring'"),
    ("notifications", [], "the key 'notifications'"),
    (SCALE + "/secrets", ["token"], "the key 'secrets'"),
    (SCALE + "/deploy/update/on_failure", "retry", "deploy.update.on_failure 'retry'"),
    (SCALE + "/deploy/rollback/on_failure", "retry", "deploy.rollback.on_failure 'retry'"),
    (SCALE + "/resources/gpus", 1, "the key 'resources.gpus'"),
    (SCALE + "/resources/disk", "1GB", "the key 'resources.disk'"),
    (SCALE + "/resources/network", "1MB", "the key 'resources.network'"),
    (JUDGE + "/props/path", "models:/judge/production", "fetching from 'models:' addresses"),
    (JUDGE + "/props/path", "mlflow:runs/1", "fetching from 'mlflow:' addresses"),
    (JUDGE + "/props/optimize", {"precision": "int8"}, "the onnx option 'optimize'"),
    (JUDGE + "/args", {"x": 1}, "passing args to a model"),
    (RAW + "/format", "avro", "format 'avro'"),
    (RAW + "/props/server", {"secret": "broker"}, "a secret as a value"),
]


def refusals(path: str, value: Any) -> list[tuple[str, str, str]]:
    document, problems = parse(with_value(a_document(), path, value))
    assert problems == []
    assert document is not None
    return [(each.severity, each.pointer, each.message) for each in unavailable(document)]


@pytest.mark.parametrize(("path", "value", "what"), REFUSED, ids=[f"{path}-{what}" for path, _, what in REFUSED])
def test_it_is_refused_by_name(path: str, value: Any, what: str) -> None:
    assert refusals(path, value) == [("error", f"/{path}", f"{what} is not available yet")]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("package-mode", "api"),
        ("containerized", True),
        ("deploy-mode", "local"),
        ("rollout", None),
        (SCALE + "/containerized", True),
        (SCALE + "/queues/input", ["raw"]),
        (SCALE + "/args", {"factor": 2}),
        (SCALE + "/replicas", 1),
        (SCALE + "/restart", "no"),
        (SCALE + "/constraints/model", {"max_execution_time": 1}),
        (RAW + "/format", "json"),
        (SCALE + "/deploy", {"update": {"on_failure": "stop"}, "rollback": {"on_failure": "stop"}}),
        (SCALE + "/deploy", {"update": {"on_failure": "rollback"}}),
        (SCALE + "/environment/A", "{braces} and node.name"),
        (SCALE + "/labels", {"team": "north"}),
        (SCALE + "/constraints/node", {"layer": "edge"}),
        (SCALE + "/resources", {"cpus": 0.5, "gpus": 0, "memory": "512MB"}),
        (SCALE + "/batch", {"max-size": 8, "max-wait-ms": 5}),
        (SCALE + "/props/path", "/opt/plant/scale"),
        (SCALE + "/props/path", "git@forge.local:plant/scale.git"),
        (SCALE + "/props/path", "ssh://git@forge.local/scale"),
        (SCALE + "/props/path", "https://user:pw@forge.local/scale"),
        (JUDGE + "/props/path", "https://forge.local/judge.onnx#sha256=" + "0" * 64),
        (JUDGE + "/args", {}),
        (RAW + "/guarantee", "at-least-once"),
        (JUDGE + "/framework", "keras"),
        (JUDGE + "/framework", "tflite"),
    ],
)
def test_it_is_built(path: str, value: Any) -> None:
    assert refusals(path, value) == []


def test_scikit_learn_is_built() -> None:
    raw = with_value(a_document(), JUDGE + "/framework", "scikit-learn")
    document, _ = parse(with_value(raw, JUDGE + "/props", {"path": "a.pkl", "serializer": "pickle"}))
    assert document is not None
    assert unavailable(document) + check(document) == []


def test_addresses_are_told_from_paths() -> None:
    assert all(map(is_remote, ("git@a:b", "deploy@forge:x/y.git", "ssh://a", "HTTPS://a", "models:/a/1", "s3://b")))
    assert not any(map(is_remote, ("./a", "/a/b", "a@b", "models/a", "~/a", "a/b@c:d", "C", "")))
