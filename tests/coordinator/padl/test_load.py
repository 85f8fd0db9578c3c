"""From files to a document, and every mistake of shape in a sentence with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.padl.parse import load, parse, without_passwords
from fogline.coordinator.padl.verdict import judge
from support.padl_files import a_document, with_value, without, written


def test_absent_keys_have_their_defaults() -> None:
    raw = {"version": "1.0", "id": "p", "pipeline": {"s": {"type": "code"}}, "queues": {"q": {"connector": "mqtt"}}}
    document, problems = parse(raw)
    assert problems == []
    assert document is not None
    assert (document.package_mode, document.deploy_mode, document.containerized) == ("stream", "remote", False)
    assert (document.infra, document.has_infra_map, document.rollout) == ({}, False, None)
    stage = document.pipeline["s"]
    assert (stage.framework, stage.restart, stage.replicas, stage.inputs, stage.outputs) == (
        "code",
        "always",
        1,
        (),
        (),
    )
    assert (stage.infra, stage.environment, stage.containerized, stage.resources.memory_bytes) == (None, {}, None, None)
    assert (stage.deploy.update.on_failure, stage.deploy.rollback.on_failure) == ("rollback", "stop")
    assert (stage.batch.max_size, stage.batch.max_wait_ms) == (256, 0)
    assert document.queues["q"].guarantee == "at-least-once"


def test_every_key_is_read() -> None:
    document, problems = parse(
        a_document()
        | {"package-mode": "api", "deploy-mode": "local", "containerized": True, "rollout": {"strategy": "canary"}}
        | {"infra": {"m": {"hostname": "h", "sshConfig": {"user": "u", "pass": "p", "port": 2222}}}}
    )
    assert problems == []
    assert document is not None
    assert (document.package_mode, document.deploy_mode, document.containerized) == ("api", "local", True)
    access = document.infra["m"].ssh_config
    assert access is not None
    assert (access.user, access.password, access.port) == ("u", "p", 2222)
    assert "'p'" not in repr(document)
    judge = document.pipeline["judge"]
    assert (judge.inputs, judge.outputs, judge.framework) == (("scaled",), ("alarm",), "onnx")


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [(1024, 1024), ("512MB", 512_000_000), ("1 GiB", 1024**3), ("1.5Ki", 1536), ("100", 100), ("2g", 2 * 10**9)],
)
def test_memory_is_understood(given: int | str, bytes_: int) -> None:
    document, problems = parse(with_value(a_document(), "pipeline/scale/resources/memory", given))
    assert problems == []
    assert document is not None
    assert document.pipeline["scale"].resources.memory_bytes == bytes_


def test_names_come_alone_or_as_a_list() -> None:
    queues = {"input": ["a", "b"], "output": []}
    document, _ = parse(with_value(a_document(), "pipeline/scale/queues", queues))
    assert document is not None
    assert (document.pipeline["scale"].inputs, document.pipeline["scale"].outputs) == (("a", "b"), ())


def test_framework_aliases_are_resolved() -> None:
    document, _ = parse(with_value(a_document(), "pipeline/judge/framework", "scikit-learn"))
    assert document is not None
    assert document.pipeline["judge"].framework == "sklearn"


BAD_SHAPE: list[tuple[str, Any, str, str, str]] = [
    ("pipeline/scale/contraints", {}, "", "'contraints' is not a key of a stage; did you mean 'constraints'?", "known"),
    ("pipeline/scale/queues/imput", "raw", "", "'imput' is not a key of 'queues'; did you mean 'input'?", ""),
    ("Queues", {}, "", "'Queues' is not a key of the document; did you mean 'queues'?", ""),
    ("infra/gateway/sshconfig", {}, "", "'sshconfig' is not a key of a machine; did you mean 'sshConfig'?", ""),
    ("queues/raw/zzzzzzz", 1, "", "'zzzzzzz' is not a key of a queue", "connector"),
    ("infra/gateway/sshConfig/port", "abc", "", "port must be an integer between 1 and 65535, not 'abc'", ""),
    ("infra/gateway/sshConfig/port", True, "", "port must be an integer between 1 and 65535, not true", ""),
    ("pipeline/scale/type", "modell", "", "type must be 'code' or 'model', not 'modell'", "did you mean 'model'?"),
    ("pipeline/scale/restart", False, "", "restart must be 'no', 'always' or 'on-failure', not false", ""),
    ("pipeline/scale/queues/input", 5, "", "input must be a name or a list of names, not 5", ""),
    ("pipeline/scale/queues/input", ["raw", 5], "/1", "item 2 of input must be a string, not 5", '"5"'),
    ("pipeline/scale/replicas", 0, "", "replicas must be an integer of at least 1, or 'each'", ""),
    ("pipeline/scale/resources/memory", "lots", "", "memory must be a number of bytes or an amount", ""),
    ("pipeline/scale/resources/memory", 0, "", "memory must be a number of bytes or an amount", ""),
    ("pipeline/scale/resources/cpus", -1, "", "cpus must be a number above 0, not -1", ""),
    ("pipeline/scale/batch/max-size", 1.5, "", "max-size must be an integer between 1 and 32767, not 1.5", ""),
    ("pipeline/scale/constraints/node/zone", 7.1, "", "zone must be a string, not 7.1", 'write "7.1", in quotes'),
    ("pipeline/scale/on-error/then", "retry", "", "then must be 'dead-letter', 'drop' or 'stop'", ""),
    ("pipeline/scale/deploy/update/on_failure", "rolback", "", "on_failure must be", "did you mean 'rollback'?"),
    ("pipeline/scale", None, "", "stage 'scale' must be an object, not null", "leave the key out"),
    ("pipeline/scale", [], "", "stage 'scale' must be an object, not a list", ""),
    ("pipeline", "x", "", "pipeline must be an object, not 'x'", ""),
    ("queues", None, "", "queues must be an object, not null", "leave the key out"),
    ("containerized", "no", "", "containerized must be true or false, not 'no'", ""),
    ("package-mode", "API", "", "package-mode must be 'api' or 'stream', not 'API'", "did you mean 'api'?"),
    ("version", "2.0", "", "version must be '1.0', not '2.0'", ""),
    ("id", 7, "", "id must be a string, not 7", 'write "7", in quotes'),
    ("queues/raw/props", [], "", "props must be an object, not a list", ""),
    ("pipeline/a~b/x", 1, "", "'x' is not a key of a stage", ""),
]


@pytest.mark.parametrize(("path", "value", "below", "message", "hint"), BAD_SHAPE, ids=range(len(BAD_SHAPE)))
def test_bad_shape(tmp_path: Path, path: str, value: Any, below: str, message: str, hint: str) -> None:
    loaded = load([written(tmp_path, with_value(a_document(), path, value))])
    assert loaded.document is None
    pointer = "/" + path.replace("~", "~0") + below
    found = next(each for each in loaded.problems if each.pointer == pointer)
    assert found.severity == "error"
    assert message in found.message
    assert hint in found.hint
    assert (found.file, found.line) == loaded.locate(pointer)
    key = path.rpartition("/")[2]
    line = (tmp_path / "plant.json").read_text().splitlines()[found.line - 1]
    assert f'"{key}"' in line or below


@pytest.mark.parametrize(
    ("path", "pointer", "message"),
    [
        ("version", "/version", "'version' is missing from the document"),
        ("pipeline", "/pipeline", "'pipeline' is missing from the document"),
        ("pipeline/scale/type", "/pipeline/scale/type", "'type' is missing from stage 'scale'"),
    ],
)
def test_a_missing_key_is_placed_at_its_holder(tmp_path: Path, path: str, pointer: str, message: str) -> None:
    loaded = load([written(tmp_path, without(a_document(), path))])
    assert [(each.pointer, each.message) for each in loaded.problems] == [(pointer, message)]
    assert loaded.problems[0].line == loaded.locate(pointer.rpartition("/")[0])[1] > 0


def test_wrong_values_near_passwords_are_not_repeated(tmp_path: Path) -> None:
    for path in ("infra/gateway/sshConfig/pass", "infra/gateway/sshConfig", "infra/gateway"):
        for secret in (48151623, ["48151623"], {"hidden": "48151623"}, "u:48151623"):
            loaded = load([written(tmp_path, with_value(a_document(), path, secret))])
            assert not any("48151623" in str(each) for each in judge(loaded))
    loaded = load([written(tmp_path, with_value(a_document(), "queues/raw/props/password", "48151623"))])
    assert not any("48151623" in str(each) for each in judge(loaded))


def test_passwords_stay_behind() -> None:
    raw = with_value(a_document(), "infra/gateway/sshConfig", {"user": "u", "pass": "p"})
    assert without_passwords(raw)["infra"] == {"gateway": {"hostname": "edge-1", "sshConfig": {"user": "u"}}}
    assert raw["infra"]["gateway"]["sshConfig"]["pass"] == "p"
    for odd in ({"infra": 1}, {"infra": {"m": 1}}, {"infra": {"m": {"sshConfig": 1}}}, {}):
        assert without_passwords(odd) == odd


def test_the_id_is_the_stem_of_the_first_file(tmp_path: Path) -> None:
    first = written(tmp_path, without(a_document(), "id"), "north.json")
    second = written(tmp_path, {"deploy-mode": "local"}, "south.json")
    loaded = load([first, second])
    assert loaded.document is not None
    assert (loaded.document.id, loaded.raw["id"], loaded.document.deploy_mode) == ("north", "north", "local")


def test_the_same_document_in_yaml(tmp_path: Path) -> None:
    text = """
version: 1.0
id: plant
pipeline:
  scale:
    type: code
    restart: no
    props: {path: ./scale}
    queues: {input: raw, output: scaled}
queues:
  raw: &broker
    connector: mqtt
    props: {server: edge.local, topic: a}
  scaled:
    <<: *broker
    props: {server: edge.local, topic: b}
"""
    loaded = load([written(tmp_path, text, "plant.yaml")])
    assert judge(loaded) == []
    assert loaded.document is not None
    assert (loaded.document.pipeline["scale"].restart, loaded.document.version) == ("no", "1.0")


def test_layers_keep_their_places_and_folders(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    base = written(tmp_path, a_document())
    over = written(tmp_path / "site", '{"pipeline": {"scale":\n {"props": {"path": "./b",\n "pth": 1}}}}', "s.json")
    loaded = load([base, over])
    assert loaded.locate("/pipeline/scale/props/path") == (str(over), 2)
    assert loaded.folder_of("/pipeline/scale/props/path") == tmp_path / "site"
    assert loaded.folder_of("/pipeline/alarm/props/path") == tmp_path
    found = [each for each in judge(loaded) if each.pointer == "/pipeline/scale/props/pth"]
    assert [(each.file, each.line) for each in found] == [(str(over), 3)]


def test_an_overlay_deletes_by_null(tmp_path: Path) -> None:
    base = written(tmp_path, a_document())
    loaded = load([base, written(tmp_path, {"infra": None, "pipeline": {"scale": {"infra": None}}}, "local.json")])
    assert loaded.document is not None
    assert not loaded.document.has_infra_map
    assert loaded.document.pipeline["scale"].infra is None


def test_settings_are_the_last_layer(tmp_path: Path) -> None:
    settings = ["queues.raw.props.port=18831", "queues.raw.props.topic=a=b", "pipeline.scale.infra=null"]
    loaded = load([written(tmp_path, a_document())], settings)
    assert loaded.document is not None
    assert loaded.document.queues["raw"].props == {"server": "edge.local", "port": 18831, "topic": "a=b"}
    assert loaded.document.pipeline["scale"].infra is None
    assert loaded.locate("/queues/raw/props/port") == ("--set", 1)
    assert loaded.folder_of("/queues/raw/props/port") == Path.cwd()


@pytest.mark.parametrize("setting", ["", "a", "=1", "a..b=1", ".a=1", "a=\0", "a=\udcff", "a." * 70 + "a=1"])
def test_a_setting_that_sets_nothing(tmp_path: Path, setting: str) -> None:
    loaded = load([written(tmp_path, a_document())], ["id=x", setting])
    assert loaded.document is None
    assert [(each.file, each.line) for each in loaded.problems] == [("--set", 2)]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("queues.rw.props.port=1", "the document has no queue 'rw'; did you mean 'raw'?"),
        ("pipeline.juge.model=x", "the document has no stage 'juge'; did you mean 'judge'?"),
        ("queues.raw.props.prt=1", "'prt' is not an option of connector 'mqtt'; did you mean 'port'?"),
        ("queues.raw.props.port=x", "port must be an integer between 1 and 65535, not 'x'"),
        ("pipelne.judge.model=x", "'pipelne' is not a key of the document; did you mean 'pipeline'?"),
    ],
)
def test_a_misspelt_setting_is_placed_at_set(tmp_path: Path, setting: str, message: str) -> None:
    found = judge(load([written(tmp_path, a_document())], ["id=x", setting]))
    named = [each for each in found if each.message == message]
    assert [(each.severity, each.file, each.line) for each in named] == [("error", "--set", 2)]


def test_every_unreadable_file_is_named(tmp_path: Path) -> None:
    bad = written(tmp_path, "{", "bad.json")
    loaded = load([tmp_path / "absent.json", written(tmp_path, a_document()), bad])
    assert loaded.document is None
    assert [each.file for each in loaded.problems] == [str(tmp_path / "absent.json"), str(bad)]
    assert judge(loaded) == loaded.problems


def test_no_document_at_all() -> None:
    loaded = load([])
    assert [each.message for each in judge(loaded)] == ["no document is given"]


def test_a_duplicate_key_refuses_the_document(tmp_path: Path) -> None:
    text = '{"version": "1.0", "id": "a",\n "id": "b",\n "pipeline": {"s": {"type": "code", "contraints": 1}}}'
    loaded = load([written(tmp_path, text)])
    assert loaded.document is None
    assert [(each.pointer, each.line) for each in loaded.problems] == [("/id", 2), ("/pipeline/s/contraints", 3)]
