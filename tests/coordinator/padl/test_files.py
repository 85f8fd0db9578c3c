"""Queues that are files: what the document alone tells, where relative paths start, and what a plan adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.core.place import Circumstances
from fogline.coordinator.core.plan import Plan, plan
from fogline.coordinator.core.specs import Source, segment_spec
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.padl.files import anchored
from fogline.coordinator.padl.parse import load
from fogline.coordinator.padl.problems import Problem
from fogline.coordinator.padl.verdict import judge
from support.documents import a_node, a_queue, a_stage, document


def a_file(path: str, **props: Any) -> dict[str, Any]:
    return {"connector": "file", "props": {"path": path, **props}}


def a_document(**changes: Any) -> dict[str, Any]:
    """csv files -> a -> b -> JSON lines."""
    stages = {"a": a_stage("raw", "b"), "b": a_stage("a", "out")}
    queues = {"raw": a_file("/data/in/*.csv"), "out": a_file("/data/out/all.jsonl")} | changes.pop("queues", {})
    return {"version": "1.0", "id": "p", "pipeline": stages, "queues": queues, **changes}


def judged(folder: Path, raw: dict[str, Any]) -> list[Problem]:
    (folder / "p.json").write_text(json.dumps(raw))
    return judge(load([folder / "p.json"]))


def test_a_sound_document_has_no_problem(tmp_path: Path) -> None:
    assert judged(tmp_path, a_document()) == []
    written = {"queues": {"raw": {"path": "/data/in/*.csv"}, "out": {"path": "file:///data/all.log", "format": "json"}}}
    assert judged(tmp_path, a_document(**written)) == []


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"raw": a_file("/data/in/*")}, "/queues/raw/props/path", "nothing says how the lines of '/data/in/*'"),
    ({"raw": a_file("/a.csv", delimiter=";;")}, "/queues/raw/props/delimiter", "delimiter must be one character"),
    ({"raw": a_file("/a.csv", format="avro")}, "/queues/raw/props/format", "format must be 'json' or 'csv' or 'text'"),
    ({"raw": a_file("in/*.csv")}, "/queues/raw/props/path", "'in/*.csv' is looked up on the node of the stage"),
    (
        {"out": a_file("/data/*.csv")},
        "/queues/out/props/path",
        "stage 'b' writes to '/data/*.csv', so it names one file",
    ),
    (
        {"raw": a_file("/data/*/*.jsonl")},
        "/queues/out/props/path",
        "what is written to 'out' is among the files that 'raw' reads",
    ),
    ({"out": {"connector": "file", "props": {}}}, "/queues/out/props", "needs the option 'path'"),
    ({"out": {"path": "*.csv"}}, "/queues/out/path", "it names one file"),
]


@pytest.mark.parametrize(("queues", "pointer", "message"), REFUSED, ids=[each[2] for each in REFUSED])
def test_what_is_refused(tmp_path: Path, queues: dict[str, Any], pointer: str, message: str) -> None:
    found = judged(tmp_path, a_document(queues=queues))
    assert [pointer] == [each.pointer for each in found if message in each.message], found
    assert all(each.severity == "error" for each in found)


def test_a_file_is_not_read_while_it_is_written(tmp_path: Path) -> None:
    raw = a_document(queues={"mid": a_file("/data/mid.jsonl")})
    raw["pipeline"] = {"a": a_stage("raw", "mid"), "b": a_stage("mid", "out")}
    (found,) = judged(tmp_path, raw)
    assert found.message == "stage 'a' writes the file 'mid' and stage 'b' reads it"
    assert "link the stages directly" in found.hint


def test_two_queues_do_not_write_one_file(tmp_path: Path) -> None:
    raw = a_document(queues={"more": a_file("/data/./out/all.jsonl")})
    raw["pipeline"]["b"]["queues"]["output"] = ["out", "more"]
    (found,) = judged(tmp_path, raw)
    assert "'more' write the same file" in found.message


def test_dead_letters_are_not_copied_into_csv(tmp_path: Path) -> None:
    raw = a_document(queues={"bad": a_file("/data/bad.csv")})
    raw["pipeline"]["b"]["on-error"] = {"queue": "bad"}
    (found,) = judged(tmp_path, raw)
    assert "stage 'b' copies dead letters to 'bad'" in found.message
    raw["queues"]["bad"] = a_file("/data/bad.jsonl")
    assert judged(tmp_path, raw) == []


def test_on_this_machine_paths_start_at_the_document(tmp_path: Path) -> None:
    folder = tmp_path / "odd [name]"
    folder.mkdir()
    queues = {"raw": {"path": "in/*.csv"}, "out": a_file("./all.jsonl"), "far": a_file("/far.jsonl")}
    raw = a_document(queues=queues)
    raw["pipeline"]["b"]["queues"]["output"] = ["out", "far"]
    (folder / "p.json").write_text(json.dumps(raw))
    loaded = anchored(load([folder / "p.json"]))
    assert loaded.raw["queues"]["raw"] == {"path": f"{tmp_path}/odd [[]name]/in/*.csv"}
    assert loaded.raw["queues"]["out"]["props"] == {"path": f"{tmp_path}/odd [name]/all.jsonl"}
    assert loaded.raw["queues"]["far"] == queues["far"]
    assert loaded.document is not None
    assert loaded.document.queues["out"].props == loaded.raw["queues"]["out"]["props"]
    assert judge(loaded) == []


def planned(raw: dict[str, Any]) -> Plan:
    nodes = [a_node(name, connectors=("mqtt", "file")) for name in ("m1", "m2")]
    return plan(document(raw), nodes, Circumstances(), {}, Wiring("plant"))


def test_a_plan_says_what_is_promised() -> None:
    found = planned(a_document())
    assert found.problems == ()
    links = {each.name: (each.address, each.guarantee) for each in found.links}
    assert links["raw"][0] == "file:///data/in/*.csv"
    assert "how far it is acknowledged" in links["raw"][1]
    assert links["out"] == ("file:///data/out/all.jsonl", "at least once: confirmed when it is on the node's disk")


def test_one_process_writes_a_file() -> None:
    raw = a_document(queues={"q": a_queue("q")})
    raw["pipeline"] = {"a": a_stage("raw", "b"), "b": a_stage("a", "out")}
    raw["pipeline"]["a"]["queues"]["output"] = ["b", "out"]
    assert planned(raw).errors == [], "one segment"
    raw["pipeline"]["b"] = a_stage("q", "out")
    raw["pipeline"]["a"]["queues"]["output"] = ["q", "out"]
    (found,) = planned(raw).errors
    assert found.message == "the file queue out is written by a and b, which are not one process"


def test_the_spec_says_how_lines_are_read() -> None:
    found = document(a_document())
    (segment,) = planned(a_document()).segments
    spec = segment_spec(found, segment, "c", dict.fromkeys(segment.stages, Source("digest")))
    assert spec.sources[0].options == {"path": "/data/in/*.csv", "format": "csv", "delimiter": ","}
    assert spec.sinks[0].options == {"path": "/data/out/all.jsonl", "format": "json", "delimiter": ","}
