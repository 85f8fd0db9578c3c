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


def test_modules_beside_an_entry_point_further_down_count_and_marks_of_packages_do_not(tmp_path: Path) -> None:
    raw = a_fused_pipeline()
    for name in "ab":
        raw["pipeline"][name]["props"]["entrypoint"] = f"{name}/main.py"
    paths = {
        "a": _folder(tmp_path / "1", "__init__.py", "a/__init__.py", "a/main.py", "a/tools.py"),
        "b": _folder(tmp_path / "2", "__init__.py", "b/main.py", "b/tools.py"),
        "c": _folder(tmp_path / "3", "__init__.py"),
    }
    (tmp_path / "2" / "main.py").unlink()
    assert incompatible(document(raw), paths) == {("a", "b"): "the folders of a and b both hold a module tools"}


def test_entry_points_and_a_common_folder_are_no_reason(tmp_path: Path) -> None:
    same = _folder(tmp_path / "a", "tools.py")
    paths = {"a": same, "b": same, "c": _folder(tmp_path / "c")}
    assert incompatible(document(a_fused_pipeline()), paths) == {}
