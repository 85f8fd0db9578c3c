"""Folders that cannot share a process."""

from __future__ import annotations

from pathlib import Path

from fogline.coordinator.artifacts.sharing import incompatible
from support.documents import a_fused_pipeline, document


def _folder(path: Path, *files: str) -> Path:
    for name in ("main.py", *files):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


def test_a_module_or_package_of_the_same_name_keeps_two_stages_apart(tmp_path: Path) -> None:
    paths = {
        "a": _folder(tmp_path / "a", "tools.py"),
        "b": _folder(tmp_path / "b", "tools/__init__.py"),
        "c": _folder(tmp_path / "c", "other.py"),
    }
    found = incompatible(document(a_fused_pipeline()), paths)
    assert found == {("a", "b"): "the folders of a and b both hold a module tools"}


def test_entry_points_and_a_common_folder_are_no_reason(tmp_path: Path) -> None:
    same = _folder(tmp_path / "a", "tools.py")
    paths = {"a": same, "b": same, "c": _folder(tmp_path / "c")}
    assert incompatible(document(a_fused_pipeline()), paths) == {}
