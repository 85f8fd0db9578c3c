"""A model from https through the commands: fetched where it is submitted, run where it is placed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from support.certificates import issued
from support.cluster import Cluster, wait_for, write_json
from support.https_files import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def _doubling(path: Path) -> str:
    """A model that adds what it reads to itself; returns its digest."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_by_https_is_tried_and_run(
    tmp_path: Path, shared_node: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = issued(tmp_path / "certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "models").mkdir()
    digest = _doubling(tmp_path / "models" / "double.onnx")
    queues: dict[str, Any] = {"q1": {"path": f"{tmp_path}/in.jsonl"}, "q2": {"path": f"{tmp_path}/out.jsonl"}}
    (tmp_path / "in.jsonl").write_text("[1.5]\n[4.0]\n")
    with serving(tmp_path / "models", certificates) as https:
        stage = {"model": f"{https.url}/double.onnx?v=3#sha256={digest}", "queues": {"input": "q1", "output": "q2"}}
        document = {"version": "1.0", "id": "remote", "pipeline": {"double": stage}, "queues": queues}
        path = str(write_json(tmp_path / "p.json", document))
        assert shared_node.coord("validate", path).stdout == "valid (errors: 0, warnings: 0)\n"
        assert https.asked == []
        tried = shared_node.coord("test", path)
        shared_node.coord("submit", path)
        assert [asked[0] for asked in https.asked] == ["/double.onnx"]
        spoilt = {"pipeline": {"double": {"model": f"{https.url}/double.onnx#sha256={'0' * 64}"}}}
        other = str(write_json(tmp_path / "spoilt.json", spoilt))
        refused = shared_node.coord("plan", path, other, check=False)
    wait_for("both records", lambda: len((tmp_path / "out.jsonl").read_text().splitlines()) == 2)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == [json.loads(line) for line in tried.stdout.splitlines()] == [[3.0], [8.0]]
    assert refused.returncode == 2
    assert f"their SHA-256 is {digest}, and the document says {'0' * 64}" in refused.stderr
    assert "spoilt.json:1: error at /pipeline/double/model" in refused.stderr
    shared_node.coord("delete", "remote")
