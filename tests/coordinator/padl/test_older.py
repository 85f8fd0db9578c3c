"""PADL 1.0: the same model behind it, and every message at the key the user wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fogline.coordinator.artifacts.resolve import resolve
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.parse import load
from fogline.coordinator.padl.verdict import judge
from support.padl_files import with_value, written

TEXT = """\
version: "1.0"
id: plant
pipeline:
  scale:
    model: scale/main.py
    args: {factor: 2}
    environment: {PORT: 8080}
    constraints:
      node: {layer: edge, zone: 7}
      model: {max_execution_time: 10s}
    queues: {input: raw, output: scaled}
  judge:
    model: models/judge.onnx
    resources: {cpus: "2", memory: 1G}
    restart: on-failure
    queues: {input: scaled, output: alarms}
queues:
  raw:
    format: text
    path: mqtt://edge:1884/plant/+/raw
  scaled: {format: json, path: "mqtt://edge/plant/scaled"}
  alarms: {path: "mqtt://[::1]/plant/alarms"}
"""


def changed(path: str, value: Any) -> str:
    return yaml.safe_dump(with_value(yaml.safe_load(TEXT), path, value), sort_keys=False)


def document(folder: Path, text: str = TEXT) -> Document:
    loaded = load([written(folder, text, "plant.yaml")])
    assert judge(loaded) == []
    assert loaded.document is not None
    return loaded.document


def test_it_means_what_the_newer_form_would_say(tmp_path: Path) -> None:
    found = document(tmp_path)
    scale, judge_ = found.pipeline["scale"], found.pipeline["judge"]
    assert (scale.type, scale.framework) == ("code", "code")
    assert scale.props == {"path": "scale", "entrypoint": "main.py"}
    assert (scale.args, scale.environment) == ({"factor": 2}, {"PORT": "8080"})
    assert scale.constraints.node == {"layer": "edge", "zone": "7"}
    assert scale.deadlines is not None
    assert (scale.deadlines.live, scale.deadlines.startup) == (10.0, 120.0)
    assert (judge_.type, judge_.framework, judge_.props) == ("model", "onnx", {"path": "models/judge.onnx"})
    assert (judge_.resources.cpus, judge_.resources.memory_bytes, judge_.restart) == (2.0, 10**9, "on-failure")
    queues = {name: (queue.connector, queue.props) for name, queue in found.queues.items()}
    assert queues == {
        "raw": ("mqtt", {"server": "edge", "port": 1884, "topic": "plant/+/raw", "format": "text"}),
        "scaled": ("mqtt", {"server": "edge", "topic": "plant/scaled", "format": "json"}),
        "alarms": ("mqtt", {"server": "::1", "topic": "plant/alarms"}),
    }


@pytest.mark.parametrize(
    ("model", "framework", "serializer"),
    [
        ("a.onnx", "onnx", None),
        ("a.PKL", "sklearn", "pickle"),
        ("a.joblib", "sklearn", "joblib"),
        ("a.h5", "tensorflow", "h5"),
        ("a.tflite", "tflite", None),
    ],
)
def test_the_ending_says_what_kind_of_model_it_is(tmp_path: Path, model: str, framework: str, serializer: Any) -> None:
    loaded = load([written(tmp_path, changed("pipeline/judge/model", model), "plant.yaml")])
    assert loaded.document is not None
    stage = loaded.document.pipeline["judge"]
    assert (stage.framework, stage.props.get("serializer")) == (framework, serializer)


def test_a_given_type_or_framework_decides(tmp_path: Path) -> None:
    folder = document(tmp_path, changed("pipeline/scale", _stage(type="code", model="./scale")))
    assert folder.pipeline["scale"].props == {"path": "./scale"}
    given = document(tmp_path, changed("pipeline/judge/framework", "onnx"))
    assert given.pipeline["judge"].framework == "onnx"


def _stage(**keys: Any) -> dict[str, Any]:
    return {"queues": {"input": "raw", "output": "scaled"}, **keys}


def test_the_shorter_deadline_of_two_holds(tmp_path: Path) -> None:
    for live, expected in ((5, 5.0), (20, 10.0)):
        stage = document(tmp_path, changed("pipeline/scale/health", {"live": live})).pipeline["scale"]
        assert stage.deadlines is not None
        assert stage.deadlines.live == expected


REFUSED: list[tuple[str, Any, str, str, str]] = [
    ("pipeline/judge/model", "judge.pfa", "", "nothing says what kind of model 'judge.pfa' is", '"framework": one of'),
    ("pipeline/judge/model", "models:/judge/1", "", "nothing says what kind of model", "framework"),
    (
        "pipeline/judge/model",
        "https://x/a.onnx",
        "",
        "the address must end in #sha256=",
        "curl -L https://x/a.onnx | sha256sum",
    ),
    ("pipeline/judge/model", "", "", "nothing says what kind of model '' is", ""),
    ("pipeline/judge/contraints", {}, "", "'contraints' is not a key of a stage; did you mean 'constraints'?", "known"),
    ("pipeline/judge/props", {"path": "b.onnx"}, "/path", "'path' is not what 'model' says", "keep one"),
    ("pipeline/judge/deploy/update/on_failure", "rolback", "", "must be 'retry', 'rollback' or 'stop'", "'rollback'"),
    ("pipeline/judge/deploy/update/on_failure", "retry", "", "'retry' is not available yet", "use rollback or stop"),
    ("pipeline/scale/constraints/node/layer", "egde", "", "layer 'egde' is not known; did you mean 'edge'?", "fog"),
    ("pipeline/scale/constraints/model/max_execution_time", "soon", "", "a number of seconds above 0", ""),
    ("pipeline/scale/resources", {"network": "10GbE"}, "/network", "'resources.network' is not available yet", ""),
    ("pipeline/scale/resources", {"gpus": "2"}, "/gpus", "'resources.gpus' is not available yet", ""),
    ("queues/raw/path", "logs/*.log", "", "'logs/*.log' is looked up on the node of the stage", "absolute path"),
    ("queues/raw/path", "ws://edge/raw", "", "the path 'websocket://edge/raw' names no port", "ws://edge:8765/norm"),
    ("queues/raw/path", "wss://edge:1/raw", "", "('wss://') is not available yet", "use ws://"),
    ("queues/raw/path", "http://elk:9200/pred", "", "no connector is known for 'http://'", "mqtt://"),
    ("queues/raw/path", "mqtt://edge", "", "'mqtt://edge' names no topic", "mqtt://HOST:PORT/TOPIC"),
    ("queues/raw/path", "mqtt:///raw", "", "the path names no server", "mqtt://HOST:PORT/TOPIC"),
    ("queues/raw/path", "mqtt://edge:99999/raw", "", "an integer between 1 and 65535, not 99999", ""),
    ("queues/alarms/path", "mqtt://edge/a/#", "", "stage 'judge' writes to this topic", ""),
    ("queues/raw/format", "avro", "", "format 'avro' is not available yet", "json"),
    ("queues/raw/format", "jsn", "", "format must be 'text', 'avro' or 'json', not 'jsn'", "did you mean 'json'?"),
    ("queues/raw/path", "kafka://edge/a/b", "", "'a/b' cannot be a topic of Kafka", "plant.raw"),
    ("queues/raw/connector", "kafka", "", "'connector' is not what 'path' says", "keep one"),
    ("queues/raw", {"format": "json"}, "", "queue 'raw' needs a 'path'", "mqtt://edge/norm"),
]


@pytest.mark.parametrize(("path", "value", "below", "message", "hint"), REFUSED, ids=range(len(REFUSED)))
def test_messages_name_the_key_that_was_written(
    tmp_path: Path, path: str, value: Any, below: str, message: str, hint: str
) -> None:
    file = written(tmp_path, changed(path, value), "plant.yaml")
    loaded = load([file])
    found = [each for each in judge(loaded) if message in each.message]
    assert [(each.severity, each.pointer, each.file) for each in found] == [("error", f"/{path}{below}", str(file))]
    assert hint in found[0].hint
    key = f"/{path}{below}".rpartition("/")[2]
    assert f"{key}:" in file.read_text().splitlines()[found[0].line - 1]


def test_a_login_in_a_path_is_never_shown(tmp_path: Path) -> None:
    loaded = load([written(tmp_path, changed("queues/raw/path", "mqtt://me:geheim@edge/raw"), "plant.yaml")])
    found = judge(loaded)
    assert [each.pointer for each in found] == ["/queues/raw/path"]
    assert "geheim" not in str(found)


def test_missing_files_are_placed_at_the_model(tmp_path: Path) -> None:
    (tmp_path / "scale").mkdir()
    found = resolve(load([written(tmp_path, TEXT, "plant.yaml")])).problems
    assert [(each.pointer, each.line) for each in found] == [
        ("/pipeline/scale/model", 5),
        ("/pipeline/judge/model", 13),
    ]
    assert "model names the Python file" in found[0].hint


def test_a_model_in_an_overlay_starts_at_the_overlay(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    base = written(tmp_path, TEXT, "plant.yaml")
    over = written(tmp_path / "site", "pipeline: {judge: {model: own.onnx}}", "site.yaml")
    assert resolve(load([base, over])).paths["judge"] == tmp_path / "site" / "own.onnx"


@pytest.mark.parametrize(
    ("stage", "model", "props"),
    [
        ("scale", "https://forge.test/plant/scale/main.py", {"path": "https://forge.test/plant/scale"}),
        ("judge", "https://forge.test/a.onnx?v=3#sha256=" + "1" * 64, {}),
    ],
)
def test_code_and_models_may_be_elsewhere(tmp_path: Path, stage: str, model: str, props: dict[str, Any]) -> None:
    found = document(tmp_path, changed(f"pipeline/{stage}/model", model)).pipeline[stage]
    assert found.framework == {"scale": "code", "judge": "onnx"}[stage]
    assert found.props == ({"entrypoint": "main.py", **props} if props else {"path": model})
