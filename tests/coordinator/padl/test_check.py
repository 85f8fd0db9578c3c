"""What documents mean: one mistake each, with its place, its sentence and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fogline.coordinator.padl.check import check
from fogline.coordinator.padl.parse import parse
from fogline.coordinator.padl.problems import Problem
from support.padl_files import a_document, with_value, without

Raw = dict[str, Any]


def checked(raw: Raw) -> list[Problem]:
    document, problems = parse(raw)
    assert problems == []
    assert document is not None
    return check(document)


def setting(*changes: tuple[str, Any]) -> Raw:
    document = a_document()
    for path, value in changes:
        with_value(document, path, value)
    return document


def test_a_sound_document_has_no_problem() -> None:
    assert checked(a_document()) == []


def a_queue(**props: Any) -> Raw:
    return {"connector": "mqtt", "props": {"server": "edge.local", "topic": "plant/x", **props}}


SCALE, JUDGE, ALARM = "pipeline/scale", "pipeline/judge", "pipeline/alarm"

ERRORS: list[tuple[list[tuple[str, Any]], str, str, str]] = [
    # names
    ([("id", "my plant")], "/id", "'my plant' is not a pipeline id", "letters"),
    ([("queues/-q", a_queue())], "/queues/-q", "'-q' is not a queue name", "letters"),
    ([("infra/" + "m" * 64, {})], "/infra/" + "m" * 64, "is not a machine name", "at most 63"),
    ([("queues/scale", a_queue())], "/queues/scale", "'scale' is the name of a stage and of a queue", "rename"),
    # references
    (
        [(SCALE + "/queues/output", "scald")],
        "/pipeline/scale/queues/output",
        "'scald' is neither a queue nor a stage; did you mean 'scaled'?",
        "known: ",
    ),
    (
        [(SCALE + "/queues/output", ["scaled", "scald"])],
        "/pipeline/scale/queues/output/1",
        "'scald' is neither a queue nor a stage",
        "known: alarm, alarms, judge, raw, scale, scaled",
    ),
    ([(SCALE + "/queues/input", "")], "/pipeline/scale/queues/input", "'' is neither a queue nor a stage", ""),
    ([(SCALE + "/queues/input", ["raw", "raw"])], "/pipeline/scale/queues/input/1", "input names 'raw' twice", ""),
    (
        [(SCALE + "/route", "to"), (SCALE + "/queues", {"input": "raw"})],
        "/pipeline/scale/route",
        "stage 'scale' routes records but has no output",
        '"output": ["english", "other"]',
    ),
    ([(SCALE + "/infra", "gatewy")], "/pipeline/scale/infra", "not a machine of infra; did you mean 'gateway'?", ""),
    # direct links
    (
        [(SCALE + "/queues/output", "judge"), (JUDGE + "/queues", {"output": "alarm"})],
        "/pipeline/scale/queues/output",
        "stage 'scale' writes to stage 'judge', whose input does not name 'scale'",
        'add "input": "scale" to the queues of \'judge\'',
    ),
    (
        [(JUDGE + "/queues/output", "scaled")],
        "/pipeline/alarm/queues/input",
        "stage 'alarm' reads from stage 'judge', whose output does not name 'alarm'",
        'add "output": ["scaled", "alarm"] to the queues of \'judge\'',
    ),
    ([(SCALE + "/queues", {"output": "scaled"})], "/pipeline/scale", "reads nothing: it has no input", '"input"'),
    # cycles
    (
        [(ALARM + "/queues/output", "raw")],
        "/pipeline/scale/queues/output",
        "the pipeline runs in a circle: scale → scaled → judge → alarm → raw → scale",
        "",
    ),
    (
        [(SCALE + "/queues", {"input": ["raw", "scale"], "output": ["scaled", "scale"]})],
        "/pipeline/scale/queues/output",
        "circle: scale → scale",
        "",
    ),
    (
        [(SCALE + "/queues/output", ["scaled", "raw"])],
        "/pipeline/scale/queues/output",
        "circle: scale → raw → scale",
        "",
    ),
    # plugins and their options
    (
        [("queues/alarms/guarantee", "exactly-once")],
        "/queues/alarms/guarantee",
        "'mqtt' has no transactions",
        "at-least",
    ),
    (
        [("queues/raw/props/password", {"secret": "p"})],
        "/queues/raw/props/password",
        "without a login name",
        "username",
    ),
    ([("queues/raw/connector", "mqqt")], "/queues/raw/connector", "'mqqt' is not known; did you mean 'mqtt'?", "kafka"),
    ([("queues/raw/connector", "")], "/queues/raw", "queue 'raw' needs a 'connector'", "mqtt"),
    ([(JUDGE + "/framework", "onxx")], "/pipeline/judge/framework", "not known; did you mean 'onnx'?", "sklearn"),
    ([(JUDGE + "/framework", "code")], "/pipeline/judge/framework", "framework 'code' is not known", ""),
    ([(JUDGE + "/framework", None)], "/pipeline/judge", "a model stage needs a 'framework'", "one of keras, onnx"),
    ([(SCALE + "/framework", "onnx")], "/pipeline/scale/framework", "a code stage has no framework", '"model"'),
    ([(SCALE + "/language", "Pyton")], "/pipeline/scale/language", "did you mean 'python'?", "known: python"),
    ([(SCALE + "/args", {"a b": 1})], "/pipeline/scale/args/a b", "'a b' is not the name of an argument", ""),
    ([(SCALE + "/environment", {"A=B": ""})], "/pipeline/scale/environment/A=B", "environment variable", ""),
    ([("queues/raw/props/tpic", "x")], "/queues/raw/props/tpic", "connector 'mqtt'; did you mean 'topic'?", "server"),
    ([("queues/raw/props/port", "1883")], "/queues/raw/props/port", "an integer between 1 and 65535, not '1883'", ""),
    (
        [("queues/raw/props/password", "hunter2")],
        "/queues/raw/props/password",
        'password must be the name of a secret, {"secret": NAME}',
        "Password of the login",
    ),
    (
        [("queues/raw/props/password", {"secret": "../x"})],
        "/queues/raw/props/password",
        'password must be the name of a secret, {"secret": NAME}',
        "",
    ),
    ([("queues/raw/props/port", 0)], "/queues/raw/props/port", "an integer between 1 and 65535, not 0", ""),
    ([("queues/raw/props/port", True)], "/queues/raw/props/port", "an integer between 1 and 65535, not true", ""),
    ([("queues/raw/props/format", "jsn")], "/queues/raw/props/format", "'text' or 'bytes', not 'jsn'", "'json'?"),
    ([("queues/raw/props/server", "")], "/queues/raw/props/server", "a string that is not empty", ""),
    ([("queues/raw/props", {"server": "x"})], "/queues/raw/props", "connector 'mqtt' needs the option 'topic'", "add"),
    ([("queues/raw/props/qos", 2)], "/queues/raw/props/qos", "QoS 2 with manual acknowledgement loses messages", "1"),
    ([("queues/raw/props/qos", 3)], "/queues/raw/props/qos", "qos must be 0 or 1, not 3", ""),
    ([(SCALE + "/props", {})], "/pipeline/scale/props", "a code stage needs the option 'path'", "Folder"),
    ([(JUDGE + "/props/input", [])], "/pipeline/judge/props/input", "a name or a list of names", ""),
    ([(JUDGE + "/props/input", ["a", 1])], "/pipeline/judge/props/input", "a name or a list of names", ""),
    ([(JUDGE + "/props/method", "predict")], "/pipeline/judge/props/method", "not an option of framework 'onnx'", ""),
    # topics
    ([("queues/alarms/props/topic", "a/+")], "/queues/alarms/props/topic", "stage 'alarm' writes to this topic", ""),
    ([("queues/raw/props/topic", "a#")], "/queues/raw/props/topic", "a wildcard stands alone", "plant/+/raw"),
    ([("queues/raw/props/topic", "#/a")], "/queues/raw/props/topic", "'#' only at the end", ""),
    ([("queues/raw/props/topic", "$share/g/a")], "/queues/raw/props/topic", "shared subscription", ""),
    ([("queues/raw/props/topic", "ä" * 40_000)], "/queues/raw/props/topic", "longer than 65535 bytes", ""),
    # metadata
    ([("queues/raw/props/metadata", "")], "/queues/raw/props/metadata", "must be the name of a field", "_meta"),
    ([("queues/raw/props/metadata", True)], "/queues/raw/props/metadata", "must be a string, not true", ""),
    (
        [("queues/raw/props/metadata", "_meta"), ("queues/raw/props/format", "text")],
        "/queues/raw/props/metadata",
        "a record of format 'text' has no fields",
        'use "format": "json"',
    ),
    # dead letters
    (
        [(SCALE + "/on-error/queue", "alrms")],
        "/pipeline/scale/on-error/queue",
        "not a queue; did you mean 'alarms'?",
        "",
    ),
    ([(SCALE + "/on-error/queue", "judge")], "/pipeline/scale/on-error/queue", "'judge' is not a queue", "known: "),
    ([(SCALE + "/on-error/queue", "raw")], "/pipeline/scale/queues/output", "circle: scale → raw → scale", ""),
    ([(SCALE + "/constraints/node", {"layer": "foog"})], "/pipeline/scale/constraints/node/layer", "mean 'fog'?", ""),
    # API mode
    ([("package-mode", "api")], "/pipeline/scale/queues/input", "'raw' is a queue, and in API mode", "neighbour"),
]


@pytest.mark.parametrize(("changes", "pointer", "message", "hint"), ERRORS, ids=range(len(ERRORS)))
def test_an_error(changes: list[tuple[str, Any]], pointer: str, message: str, hint: str) -> None:
    found = [each for each in checked(setting(*changes)) if each.pointer == pointer and message in each.message]
    assert [each.severity for each in found] == ["error"]
    assert hint in found[0].hint


WARNINGS: list[tuple[Raw, str, str]] = [
    (setting(("queues/spare", a_queue())), "/queues/spare", "no stage uses the queue 'spare'"),
    (setting(("infra/spare", {})), "/infra/spare", "no stage is pinned to the machine 'spare'"),
    (without(a_document(), "infra"), "/pipeline/scale/infra", "the document has no infra map"),
    (
        setting((SCALE + "/constraints/node", {"hostnam": "a"})),
        "/pipeline/scale/constraints/node/hostnam",
        "'hostname'",
    ),
    (setting((JUDGE + "/language", "python")), "/pipeline/judge/language", "a model stage has no language"),
    (setting(("queues/alarms/props/metadata", "_meta")), "/queues/alarms/props/metadata", "no stage reads 'alarms'"),
    (setting(("infra/gateway/sshConfig", {"pass": "geheim"})), "/infra/gateway/sshConfig/pass", "in clear text"),
    (
        setting(("queues/alarms/props", {"server": "edge.local", "port": 1883, "topic": "plant/raw"})),
        "/queues/alarms/props/topic",
        "queues 'raw' and 'alarms' are the same topic of the same broker",
    ),
]


@pytest.mark.parametrize(("raw", "pointer", "message"), WARNINGS, ids=range(len(WARNINGS)))
def test_a_warning(raw: Raw, pointer: str, message: str) -> None:
    found = checked(raw)
    assert [(each.severity, each.pointer) for each in found] == [("warning", pointer)]
    assert message in found[0].message
    assert "geheim" not in str(found)


def test_a_stage_without_output_is_a_warning() -> None:
    found = checked(without(without(a_document(), ALARM + "/queues/output"), "queues/alarms"))
    assert [(each.severity, each.pointer) for each in found] == [("warning", "/pipeline/alarm")]


def test_metadata_is_for_what_is_read_also_where_it_is_written() -> None:
    fields = [(f"queues/{name}/props/metadata", "_meta") for name in ("raw", "scaled")]
    assert checked(setting(*fields)) == []


@pytest.mark.parametrize("topic", ["plant/+/raw", "plant/#", "+", "#", "+/+"])
def test_wildcards_are_fine_in_a_topic_that_is_only_read(topic: str) -> None:
    assert checked(setting(("queues/raw/props/topic", topic))) == []


def test_an_infra_map_makes_unknown_machines_errors() -> None:
    found = checked(setting(("infra", {})))
    assert [(each.severity, each.pointer, each.hint) for each in found] == [
        ("error", "/pipeline/scale/infra", "known: none")
    ]


@pytest.mark.parametrize(("serializer", "count"), [("h5", 0), ("keras", 0), ("savedmodel", 0), ("pickle", 1)])
def test_an_alias_is_judged_by_the_table_of_its_framework(serializer: str, count: int) -> None:
    props = {"path": "x.h5", "serializer": serializer}
    found = checked(setting((JUDGE + "/framework", "keras"), (JUDGE + "/props", props)))
    assert [each.pointer for each in found] == ["/pipeline/judge/props/serializer"] * count


def test_an_older_dialect_is_not_judged_by_the_newer_tables() -> None:
    raw = setting(("queues/raw", {"path": "mqtt://edge/norm", "format": "json"}))
    raw["pipeline"]["scale"] = {"model": "models/a.pkl", "queues": {"input": "raw", "output": "scaled"}}
    assert [each.pointer for each in checked(raw)] == ["/infra/gateway"]


def test_two_cycles_are_two_problems() -> None:
    stage: Callable[[str, str], Raw] = lambda a, b: {  # noqa: E731
        "type": "code",
        "props": {"path": "."},
        "queues": {"input": a, "output": b},
    }
    pipeline = {"a": stage("p", "q"), "b": stage("q", "p"), "c": stage("r", "s"), "d": stage("s", "r")}
    queues = {name: a_queue(topic=name) for name in "pqrs"}
    found = checked({"version": "1.0", "id": "x", "pipeline": pipeline, "queues": queues})
    assert [each.message.partition(": ")[2] for each in found] == ["a → q → b → p → a", "c → s → d → r → c"]


def test_a_long_chain_is_no_burden() -> None:
    count = 3000
    pipeline = {
        f"s{index}": {
            "type": "code",
            "props": {"path": "."},
            "queues": {"input": f"q{index}", "output": f"q{(index + 1) % count}"},
        }
        for index in range(count)
    }
    queues = {f"q{index}": a_queue(topic=str(index)) for index in range(count)}
    found = checked({"version": "1.0", "id": "x", "pipeline": pipeline, "queues": queues})
    assert len(found) == 1
    assert len(found[0].message) < 200


def in_api_mode(**stages: Raw) -> list[tuple[str, str]]:
    model = {"type": "model", "framework": "onnx", "props": {"path": "m.onnx"}}
    pipeline = {name: model | {"queues": queues} for name, queues in stages.items()}
    found = checked({"version": "1.0", "id": "x", "package-mode": "api", "pipeline": pipeline})
    return [(each.pointer, each.message) for each in found]


def test_stages_form_one_chain_in_api_mode() -> None:
    assert in_api_mode(a={}) == []
    assert in_api_mode(a={"output": "b"}, b={"input": "a"}) == []
    apart = in_api_mode(a={}, b={})
    assert apart == [("/pipeline", "in API mode stages form one chain, but a, b all stand at its beginning")]
    fork = in_api_mode(a={"output": ["b", "c"]}, b={"input": "a"}, c={"input": "a"})
    assert fork == [("/pipeline/a/queues/output", "in API mode stages form a chain, but this output names 2")]


def test_a_pipeline_has_a_stage() -> None:
    found = checked({"version": "1.0", "id": "x", "pipeline": {}})
    assert [(each.pointer, each.message) for each in found] == [("/pipeline", "the pipeline has no stage")]
