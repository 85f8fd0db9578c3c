"""Dead letters from the operator's side, with a real agent: listed, shown, mended and replayed, kept and purged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

STRICT = "def handler(data):\n    return {'n': data['n']}\n"
LENIENT = "def handler(data):\n    return {'n': data.get('n', -1)}\n"


def _document(folder: Path, port: int) -> str:
    write_code(folder / "code", STRICT)
    policy = {"on-error": {"retries": 1, "then": "dead-letter"}}
    document: dict[str, Any] = {
        "version": "1.0",
        "id": "dead",
        "pipeline": {"strict": a_stage("in", "out", props={"path": "./code"}, **policy)},
        "queues": {"in": a_queue("dead/in", port=port), "out": a_queue("dead/out", port=port)},
    }
    return str(write_json(folder / "pipeline.json", document))


def _letters(cluster: Cluster, action: str, *names: str) -> list[dict[str, Any]]:
    done = cluster.coord("dead-letters", "dead", action, *names, "--output", "json")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_a_letter_is_kept_shown_replayed_discarded_and_purged(
    tmp_path: Path, broker: Mosquitto, one_node: Cluster
) -> None:
    document = _document(tmp_path, broker.port)
    one_node.coord("submit", document)
    with Collector(broker.port, "dead/out") as collector:
        one_node.coord("send", "dead", "-", input_='{"n": 1}\n{"x": 2}\n{"x": 3}\n')
        rows = wait_for("two letters", lambda: len(found := _letters(one_node, "list")) == 2 and found)
        assert [row["letter"] for row in rows] == ["edge_node/2", "edge_node/1"]
        (shown,) = _letters(one_node, "show", "edge_node/1")
        assert (shown["payload"], shown["encoding"], shown["stage"]) == ('{"x": 2}', "utf-8", "strict")
        assert (shown["attempts"], "KeyError" in shown["reason"]) == (2, True)
        assert "2 dead-lettered" in one_node.coord("status", "dead").stdout
        one_node.coord("stop", "dead")
        stopped = one_node.coord("dead-letters", "dead", "replay", "--all", check=False)
        assert (stopped.returncode, "running segment" in stopped.stderr) == (5, True)
        assert len(_letters(one_node, "list")) == 2, "a stop keeps them"
        write_code(tmp_path / "code", LENIENT)
        one_node.coord("submit", document)
        one_node.coord("dead-letters", "dead", "replay", "edge_node/2")
        wait_for("the mended one", lambda: {"n": -1} in collector.records)
        wait_for("it leaves the list", lambda: [row["letter"] for row in _letters(one_node, "list")] == ["edge_node/1"])
    assert _letters(one_node, "discard", "edge_node/1") == [{"node": "edge_node", "discarded": 1}]
    gone = one_node.coord("dead-letters", "dead", "show", "edge_node/1", check=False)
    assert (gone.returncode, gone.stderr) == (3, "coord: there is no dead letter edge_node/1\n")
    file = one_node.folder / "edge_node" / "dead-letters" / "dead" / "dead.db"
    assert file.exists()
    one_node.coord("delete", "dead")
    assert not file.exists()
