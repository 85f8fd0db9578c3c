"""`coord run` of a document that needs packages, on an index of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.cluster import BIN, write_code, write_json
from support.documents import a_stage
from support.package_index import make_wheel, only_index, wheel_of_installed

pytestmark = pytest.mark.e2e


def run_document(folder: Path, requirements: str) -> tuple[int, str]:
    """Exit code of `coord run`, and what it said."""
    (write_code(folder / "code", "def handler(data): return data + 1\n") / "requirements.txt").write_text(requirements)
    queues = {name: {"connector": "file", "props": {"path": f"{name}.jsonl"}} for name in ("in", "out")}
    raw = {"version": "1.0", "id": "t", "pipeline": {"a": a_stage("in", "out")}, "queues": queues}
    (folder / "in.jsonl").write_text("1\n2\n")
    argv = [str(BIN / "coord"), "run", str(write_json(folder / "p.json", raw))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_run_locks_what_is_not_installed_beside_coord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with only_index(monkeypatch, tmp_path) as index:
        make_wheel(index, "alpha", "1.0")
        wheel_of_installed(index, "orjson")
        code, said = run_document(tmp_path, "alpha")
        assert code == 0, said
        assert (
            "needs alpha (stage a), which is not installed beside coord: running in an environment of its own" in said
        )
        assert "resolving packages of a for 3." in said
        assert "uploading 2 of 2 wheels" in said
        assert (tmp_path / "out.jsonl").read_text() == "2\n3\n"
        shutil.rmtree(index)  # what was resolved once on this machine needs no index
        (tmp_path / "out.jsonl").unlink()
        code, said = run_document(tmp_path, "alpha")
        assert (code, "resolving" in said) == (0, False), said
        assert (tmp_path / "out.jsonl").read_text() == "2\n3\n"


def test_run_resolves_nothing_where_everything_is_there(tmp_path: Path) -> None:
    code, said = run_document(tmp_path, "pytest")
    assert code == 0, said
    assert "everything that its stages need is installed beside coord: running in coord's environment" in said
    assert "resolving" not in said
