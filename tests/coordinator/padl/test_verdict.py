"""One list with everything: a mistake in one place hides none in another."""

from __future__ import annotations

from pathlib import Path

from fogline.coordinator.padl.parse import load
from fogline.coordinator.padl.verdict import judge
from support.padl_files import a_document, with_value, written


def places(path: Path) -> list[str]:
    return [each.pointer for each in judge(load([path]))]


def test_a_sound_document_has_no_problem(tmp_path: Path) -> None:
    assert places(written(tmp_path, a_document())) == []


def test_a_bad_stage_hides_no_problem_of_another(tmp_path: Path) -> None:
    document = with_value(a_document(), "pipeline/scale/type", 3)
    with_value(document, "pipeline/alarm/queues/output", "allarms")
    with_value(document, "queues/raw/props/port", "x")
    with_value(document, "pipeline/judge/secrets", ["a"])
    assert places(written(tmp_path, document)) == [
        "/pipeline/scale/type",
        "/pipeline/judge/secrets",
        "/pipeline/alarm/queues/output",
        "/queues/raw/props/port",
    ]


def test_a_misspelt_key_makes_no_second_problem(tmp_path: Path) -> None:
    document = a_document()
    document["pipeline"]["scale"]["quues"] = document["pipeline"]["scale"].pop("queues")
    document["quees"] = document.pop("queues")
    assert sorted(places(written(tmp_path, document))) == ["/pipeline/scale/quues", "/quees"]
    document["pipeline"]["alarm"]["queues"]["input"] = "juge"
    document["pipeline"]["judge"]["nonsense"] = {}
    assert sorted(places(written(tmp_path, document))) == [
        "/pipeline/alarm/queues/input",
        "/pipeline/judge/nonsense",
        "/pipeline/judge/queues/output",
        "/pipeline/scale/quues",
        "/quees",
    ]


def test_names_of_bad_parts_count_as_defined(tmp_path: Path) -> None:
    document = with_value(a_document(), "queues/raw", 3)
    with_value(document, "pipeline/judge", [])
    with_value(document, "infra/gateway", "edge")
    assert places(written(tmp_path, document)) == ["/pipeline/judge", "/queues/raw", "/infra/gateway"]


def test_a_bad_head_does_not_hide_the_body(tmp_path: Path) -> None:
    document = with_value(a_document(), "version", "3") | {"id": 4, "deploy-mode": "here", "containerized": 1}
    with_value(document, "pipeline/scale/queues/input", "nothing")
    assert set(places(written(tmp_path, document))) == {
        *("/version", "/id", "/deploy-mode", "/containerized"),
        *("/pipeline/scale/queues/input", "/queues/raw"),
    }


def test_without_a_body_only_its_absence_is_told(tmp_path: Path) -> None:
    assert places(written(tmp_path, {"version": "1.0", "pipeline": 3})) == ["/pipeline"]


def test_order_is_that_of_files_and_lines(tmp_path: Path) -> None:
    base = written(tmp_path, with_value(a_document(), "queues/raw/props/group", "mine"), "z.json")
    over = written(tmp_path, {"pipeline": {"scale": {"secrets": ["a"], "resources": {"gpus": 1}}}}, "a.json")
    found = judge(load([base, over], ["queues.alarms.guarantee=exactly-once"]))
    assert [Path(each.file).name for each in found] == ["z.json", "a.json", "a.json", "--set"]
    assert [each.pointer for each in found[1:3]] == ["/pipeline/scale/secrets", "/pipeline/scale/resources/gpus"]
