"""The same tree gives the same bytes; what cannot be bundled is named."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from fogline.coordinator.artifacts import bundle
from fogline.coordinator.artifacts.bundle import bundle_folder
from fogline.wire.terms import ErrorKind, FoglineError


def a_tree(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    return root


NAMES = ["main.py", "lib/deep/x.py", "lib.py", "lib-a/y.py", "ä.txt", "n" * 150 + ".txt", "run.sh"]


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = a_tree(tmp_path / "one", NAMES), a_tree(tmp_path / "two", NAMES[::-1])
    for index, path in enumerate(sorted(two.rglob("*"))):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (index, index * 1.5))
    (one / "run.sh").chmod(0o755)
    (two / "run.sh").chmod(0o700)
    assert bundle_folder(one) == bundle_folder(two)
    (two / "run.sh").chmod(0o600)
    assert bundle_folder(one) != bundle_folder(two)


def test_members_are_plain_and_sorted(tmp_path: Path) -> None:
    root = a_tree(tmp_path, NAMES)
    (root / "empty").mkdir()
    (root / "run.sh").chmod(0o777)
    with tarfile.open(fileobj=io.BytesIO(bundle_folder(root)), mode="r:") as archive:
        members = archive.getmembers()
        assert archive.extractfile("lib/deep/x.py").read() == b"# lib/deep/x.py\n"  # type: ignore[union-attr]
    names = [each.name for each in members]
    assert names == sorted(names)
    assert {"empty", "lib", "lib/deep", *NAMES} <= set(names)
    assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in members} == {(0, 0, 0, "", "")}
    assert {each.name: each.mode for each in members if each.name in ("empty", "main.py", "run.sh")} == {
        "empty": 0o755,
        "main.py": 0o644,
        "run.sh": 0o755,
    }


def test_what_is_made_by_tools_is_left_out(tmp_path: Path) -> None:
    bare = bundle_folder(a_tree(tmp_path, ["main.py"]))
    a_tree(tmp_path, ["__pycache__/main.cpython-311.pyc", ".git/config", "old.pyc"])
    (tmp_path / ".venv").symlink_to("/nowhere")
    assert bundle_folder(tmp_path) == bare


def test_a_linked_folder_may_be_bundled(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "real", ["main.py"])
    (tmp_path / "link").symlink_to(root)
    assert bundle_folder(tmp_path / "link") == bundle_folder(root)


def refusal(root: Path) -> str:
    with pytest.raises(FoglineError) as caught:
        bundle_folder(root)
    assert caught.value.kind is ErrorKind.INVALID_DOCUMENT
    return caught.value.sentence


def test_links_inside_are_refused_by_name(tmp_path: Path) -> None:
    a_tree(tmp_path, ["a/main.py"])
    (tmp_path / "a" / "data").symlink_to("/etc")
    assert f"{tmp_path}/a/data is a symbolic link" in refusal(tmp_path)


def test_devices_pipes_and_sockets_are_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert f"{tmp_path}/pipe is neither a file nor a folder" in refusal(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert f"{tmp_path}/s is neither" in refusal(tmp_path)


def test_names_are_utf_8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.py")).touch()
    assert "is not UTF-8" in refusal(tmp_path)


def test_size_and_number_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_tree(tmp_path, ["a.py", "b.py", "c/d.py"])
    total = sum(path.stat().st_size for path in tmp_path.rglob("*.py"))
    monkeypatch.setattr(bundle, "SIZE_LIMIT_BYTES", total)
    monkeypatch.setattr(bundle, "ENTRY_LIMIT", 4)
    assert bundle_folder(tmp_path)
    monkeypatch.setattr(bundle, "SIZE_LIMIT_BYTES", total - 1)
    assert "larger than" in refusal(tmp_path)
    monkeypatch.setattr(bundle, "ENTRY_LIMIT", 3)
    assert "more than 3 files and folders" in refusal(tmp_path)


def test_the_limits_are_those_of_the_extractor() -> None:
    assert (bundle.SIZE_LIMIT_BYTES, bundle.ENTRY_LIMIT) == (64 * 1024 * 1024, 10_000)
    assert bundle.MODEL_LIMIT_BYTES == 1024**3


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none cannot be read" in refusal(tmp_path / "none")


def test_a_model_is_bundled_alike_but_may_be_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = a_tree(tmp_path / "model", ["saved_model.pb", "variables/data"])
    total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    bundle.bundle_model(root, tmp_path / "model.tar")
    assert (tmp_path / "model.tar").read_bytes() == bundle_folder(root)
    monkeypatch.setattr(bundle, "SIZE_LIMIT_BYTES", 1)
    monkeypatch.setattr(bundle, "MODEL_LIMIT_BYTES", total)
    bundle.bundle_model(root, tmp_path / "model.tar")
    monkeypatch.setattr(bundle, "MODEL_LIMIT_BYTES", total - 1)
    with pytest.raises(FoglineError, match="a folder that holds the model alone"):
        bundle.bundle_model(root, tmp_path / "model.tar")
