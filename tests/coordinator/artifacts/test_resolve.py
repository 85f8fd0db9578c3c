"""From documents to artifacts, and what is missing told with its place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.artifacts.bundle import bundle_folder
from fogline.coordinator.artifacts.resolve import Resolved, resolve
from fogline.coordinator.padl.parse import load
from support.padl_files import a_document, with_value, without, written

SCALE, JUDGE = "pipeline/scale/props", "pipeline/judge/props"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with everything the document names."""
    for name in ("scale", "alarm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text(f"def handler(data): return '{name}'\n")
    (tmp_path / "judge.onnx").write_bytes(b"a model")
    return tmp_path


def resolved(site: Path, *changes: tuple[str, Any], missing: Any = "error") -> Resolved:
    document = a_document()
    for path, value in changes:
        with_value(document, path, value)
    return resolve(load([written(site, document)]), missing)


def test_every_stage_gets_its_artifact(site: Path) -> None:
    found = resolved(site)
    assert found.problems == []
    assert found.paths == {"scale": site / "scale", "judge": site / "judge.onnx", "alarm": site / "alarm"}
    scale, model = found.blobs[found.artifacts["scale"]], found.blobs[found.artifacts["judge"]]
    assert scale == bundle_folder(site / "scale")
    assert found.artifacts["scale"] == hashlib.sha256(bundle_folder(site / "scale")).hexdigest()
    assert model == site / "judge.onnx"
    assert found.artifacts["judge"] == hashlib.sha256(b"a model").hexdigest()
    assert len(found.blobs) == 3


def test_equal_folders_share_a_blob(site: Path) -> None:
    found = resolved(site, (SCALE + "/path", "./alarm"))
    assert found.artifacts["scale"] == found.artifacts["alarm"]
    assert len(found.blobs) == 2


def test_paths_start_at_the_file_that_set_them(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "other").mkdir()
    (site / "other" / "b.onnx").write_bytes(b"another model")
    base = written(site, a_document())
    over = written(site / "other", {"pipeline": {"judge": {"props": {"path": "../other/b.onnx"}}}}, "over.json")
    monkeypatch.chdir(site / "other")
    found = resolve(load([Path("../plant.json"), over]))
    assert found.problems == []
    assert found.paths["judge"] == site / "other" / "b.onnx"
    assert found.paths["scale"] == base.parent / "scale"
    assert resolve(load([base], ["pipeline.judge.props.path=b.onnx"])).paths["judge"] == site / "other" / "b.onnx"


def test_absolute_paths_are_taken_as_they_are(site: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = tmp_path_factory.mktemp("models") / "m.onnx"
    model.write_bytes(b"x")
    assert resolved(site, (JUDGE + "/path", str(model))).paths["judge"] == model


MISSING = [
    (SCALE + "/path", "./nowhere", "/pipeline/scale/props/path", "there is no folder"),
    (SCALE + "/entrypoint", "mian.py", "/pipeline/scale/props/entrypoint", "there is no file"),
    (JUDGE + "/path", "./nowhere.onnx", "/pipeline/judge/props/path", "there is no model file"),
]


@pytest.mark.parametrize(("path", "value", "pointer", "message"), MISSING)
@pytest.mark.parametrize("missing", ["error", "warning"])
def test_what_is_missing(site: Path, path: str, value: str, pointer: str, message: str, missing: str) -> None:
    found = resolved(site, (path, value), missing=missing)
    assert [(each.severity, each.pointer) for each in found.problems] == [(missing, pointer)]
    problem = found.problems[0]
    assert message in problem.message
    assert str(site) in problem.message
    assert value in (site / "plant.json").read_text().splitlines()[problem.line - 1]
    assert set(found.artifacts) == {"scale", "judge", "alarm"} - {pointer.split("/")[2]}


WRONG = [
    (SCALE + "/path", "./judge.onnx", "/props/path", "judge.onnx is not a folder"),
    (SCALE + "/entrypoint", "../alarm/main.py", "/props/entrypoint", "leads out of the folder"),
    (SCALE + "/entrypoint", "/etc/passwd", "/props/entrypoint", "leads out of the folder"),
    (SCALE + "/entrypoint", ".", "/props/entrypoint", "is not a file"),
    (SCALE + "/function", "hander", "/props/function", "did you mean 'handler'?"),
    (JUDGE + "/path", "./scale", "/props/path", "scale is not a file"),
    (JUDGE + "/path", "x" * 5000, "/props/path", "cannot be read"),
]


@pytest.mark.parametrize(("path", "value", "pointer", "message"), WRONG)
def test_what_is_wrong_is_an_error_always(site: Path, path: str, value: str, pointer: str, message: str) -> None:
    found = resolved(site, (path, value), missing="warning")
    assert [(each.severity, each.pointer) for each in found.problems] == [
        ("error", path.rpartition("/props")[0].join(("/", pointer)))
    ]
    assert message in found.problems[0].message


def test_an_empty_model_is_an_error(site: Path) -> None:
    (site / "judge.onnx").write_bytes(b"")
    assert ["is empty" in each.message for each in resolved(site).problems] == [True]


def test_a_folder_that_cannot_be_bundled_is_told_at_its_path(site: Path) -> None:
    (site / "scale" / "data").symlink_to(site)
    found = resolved(site)
    assert [each.pointer for each in found.problems] == ["/pipeline/scale/props/path"]
    assert "scale/data is a symbolic link" in found.problems[0].message
    assert found.problems[0].file == str(site / "plant.json")


def test_what_others_judge_is_left_alone(site: Path) -> None:
    for path in ("", 5, ["a"], {"secret": "x"}):
        found = resolved(site, (SCALE + "/path", path))
        assert found.problems == []
        assert set(found.paths) == {"judge", "alarm"}
    assert resolved(site, (SCALE + "/function", 5), (SCALE + "/entrypoint", None)).problems == []
    assert resolve(load([written(site, without(a_document(), SCALE + "/path"))])).problems == []


def test_without_a_document_there_is_nothing(site: Path) -> None:
    assert resolve(load([written(site, {"version": 3})])) == Resolved()


def test_a_saved_model_is_the_bundle_of_its_folder(site: Path) -> None:
    (site / "net" / "variables").mkdir(parents=True)
    changes = [("pipeline/judge/framework", "tensorflow"), (JUDGE, {"path": "./net"})]
    (problem,) = resolved(site, *changes).problems
    assert problem.pointer == "/pipeline/judge/props/path"
    assert "it must hold one saved_model.pb" in problem.message
    (site / "net" / "saved_model.pb").write_bytes(b"graph")
    found = resolved(site, *changes)
    assert found.problems == []
    blob = found.blobs[found.artifacts["judge"]]
    assert isinstance(blob, Path)
    assert blob.read_bytes() == bundle_folder(site / "net")
    del found
    assert not blob.exists()


def test_a_folder_is_no_file_and_a_file_no_folder(site: Path) -> None:
    (site / "net").mkdir()
    (site / "net.keras").write_bytes(b"x")
    for props, message in (
        ({"path": "./net", "serializer": "h5"}, "is not a file"),
        ({"path": "./net.keras", "serializer": "savedmodel"}, "is not the folder of a model"),
        ({"path": "./absent"}, "there is no model folder"),
        ({"path": "./absent.h5"}, "there is no model file"),
    ):
        (problem,) = resolved(site, ("pipeline/judge/framework", "tensorflow"), (JUDGE, props)).problems
        assert message in problem.message
