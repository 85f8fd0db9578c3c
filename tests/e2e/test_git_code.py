"""Code from git through the commands: pinned in what is submitted, unchanged while its branch stands still."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.repository import Repository

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

HANDLER = "from .factor import FACTOR\ndef handler(data):\n    return data * FACTOR\n"


def _document(folder: Path, port: int, **props: Any) -> str:
    props = {"path": "./plant.git", "entrypoint": "scale/main.py", **props}
    stages = {"a": a_stage("q1", "q2", props=props)}
    queues = {f"q{n}": a_queue(f"git/{n}", port=port) for n in (1, 2)}
    document = {"version": "1.0", "id": "git", "pipeline": stages, "queues": queues}
    return str(write_json(folder / "pipeline.json", document))


def test_a_moved_branch_is_a_new_revision_and_a_commit_that_is_named_is_run_again(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plant = Repository(tmp_path / "plant")
    first = plant.commit({"scale/__init__.py": "", "scale/main.py": HANDLER, "scale/factor.py": "FACTOR = 2\n"})
    document = _document(tmp_path, broker.port, ref="main")
    assert f"a: code of ./plant.git at commit {first[:12]}" in one_node.coord("submit", document).stderr
    assert json.loads(one_node.coord("get", "git").stdout)["pipeline"]["a"]["props"]["commit"] == first
    assert "unchanged, revision 1 goes on" in one_node.coord("submit", document).stdout
    assert one_node.coord("diff", document).returncode == 0

    second = plant.commit({"scale/factor.py": "FACTOR = 3\n"})
    compared = one_node.coord("diff", document, check=False)
    assert compared.returncode == 1
    told = [line for line in compared.stdout.splitlines() if '"commit"' in line]
    assert [(line[0], line.split('"')[3]) for line in told] == [("-", first), ("+", second)]
    one_node.coord("submit", document)
    assert one_node.status("git")["revision"] == 2

    (tmp_path / "old.json").write_text(one_node.coord("get", "git", "--revision", "1").stdout)
    one_node.coord("submit", str(tmp_path / "old.json"))
    assert one_node.status("git")["revision"] == 3
    assert json.loads(one_node.coord("get", "git").stdout)["pipeline"]["a"]["props"]["commit"] == first

    (tmp_path / "in.jsonl").write_text("5\n")
    tried = one_node.coord("test", document, "--input", str(tmp_path / "in.jsonl"))
    assert tried.stdout == "15\n"
    (tmp_path / "plant.git").rename(tmp_path / "away.git")
    gone = one_node.coord("submit", document, check=False)
    assert gone.returncode == 2
    assert f"there is no folder {tmp_path}/plant.git" in gone.stderr
    alone = one_node.coord("validate", document)
    assert "valid (errors: 0, warnings: 1)" in alone.stdout


def test_a_document_alone_is_judged_without_any_network(tmp_path: Path, shared_node: Cluster) -> None:
    listing = _document(tmp_path, 1883, path="git@git.nowhere.invalid:packer/code/preparation.git")
    assert "valid (errors: 0, warnings: 0)" in shared_node.coord("validate", listing).stdout
    refused = shared_node.coord("plan", listing, check=False)
    assert refused.returncode == 2
    assert "git@git.nowhere.invalid:packer/code/preparation.git cannot be reached" in refused.stderr
    hostile = _document(tmp_path, 1883, path=f"ext::touch% {tmp_path}/canary")
    assert shared_node.coord("validate", hostile, check=False).returncode == 2
    assert shared_node.coord("test", hostile, "--input", os.devnull, check=False).returncode == 2
    assert not (tmp_path / "canary").exists()


def test_a_password_in_an_address_is_used_here_and_goes_no_further(tmp_path: Path, shared_node: Cluster) -> None:
    document = _document(tmp_path, 1883, path="https://ada:s3cret@localhost:9/plant.git")
    for command in ("validate", "plan", "submit", "diff"):
        done = shared_node.coord(command, document, check=False)
        assert "s3cret" not in done.stdout + done.stderr, command
    assert "password in clear text" in shared_node.coord("validate", document).stderr
