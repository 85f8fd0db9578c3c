"""The coordinator's store is lost, or an older copy of it comes back: nothing is stopped, what runs is shown."""

from __future__ import annotations

import json
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.mosquitto import Mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

NODES = {"a": "edge_node", "b": "cloud_1", "c": "cloud_2"}


def _document(folder: Path, port: int, stages: str = "abc", **of_b: Any) -> str:
    for name in stages:
        write_code(folder / name, "def handler(data):\n    return data\n")
    pipeline = {
        name: a_stage(f"q{index}", f"q{index + 1}", infra=NODES[name], props={"path": f"./{name}"})
        for index, name in enumerate(stages, 1)
    }
    pipeline["b"] |= of_b
    queues = {f"q{n}": a_queue(f"kept/{n}", port=port) for n in range(1, len(stages) + 2)}
    document = {"version": "1.0", "id": "kept", "pipeline": pipeline, "queues": queues}
    return str(write_json(folder / "pipeline.json", document | {"infra": {NODES[name]: {} for name in stages}}))


def _pids(fleet: Cluster) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in fleet.status("kept")["stages"] if row["state"] == "ready"}


def _shown(fleet: Cluster) -> bool:
    return any(each["id"] == "kept" for each in json.loads(fleet.coord("list", "--output", "json").stdout))


def _restart(fleet: Cluster, store: Path | None) -> None:
    """Kill the coordinator, put `store` (or none) in the place of its own, start it, wait for the nodes."""
    fleet.coordinator.end(signal.SIGKILL)
    for file in (fleet.folder / "coordinator").glob("state.db*"):
        file.unlink()
    if store:
        shutil.copy(store, fleet.folder / "coordinator" / "state.db")
    fleet.coordinator.start()
    wait_for("nodes are back", lambda: set(fleet.agents) <= fleet.connected())


def test_a_lost_store_is_filled_again_from_the_nodes(tmp_path: Path, broker: Mosquitto, fleet: Cluster) -> None:
    document = _document(tmp_path, broker.port)
    fleet.coord("submit", document)
    before = _pids(fleet)
    _restart(fleet, None)
    wait_for("the deployment is shown", partial(_shown, fleet))
    wait_for("all of it is shown", lambda: _pids(fleet) == before)
    assert "taken over from node" in fleet.coord("events", "kept").stdout
    again = json.loads(fleet.coord("submit", document, "--output", "json").stdout)
    assert (again["revision"], again["unchanged"], _pids(fleet)) == (1, True, before)
    assert json.loads(fleet.coord("get", "kept").stdout)["id"] == "kept"
    fleet.coord("stop", "kept")
    assert {row["state"] for row in fleet.status("kept")["stages"]} == {"stopped"}


def test_an_older_store_learns_what_happened_since(tmp_path: Path, broker: Mosquitto, fleet: Cluster) -> None:
    fleet.coord("submit", _document(tmp_path, broker.port))
    assert fleet.coordinator.end() == 0
    backup = tmp_path / "backup.db"
    shutil.copy(fleet.folder / "coordinator" / "state.db", backup)
    fleet.coordinator.start()
    wait_for("nodes are back", lambda: set(fleet.agents) <= fleet.connected())
    fleet.coord("submit", _document(tmp_path, broker.port, "ab", environment={"A": "1"}))
    before = _pids(fleet)
    assert set(before) == {"a", "b"}
    _restart(fleet, backup)
    wait_for("revision 2 is shown", lambda: fleet.status("kept")["revision"] == 2)
    wait_for("what runs is what ran", lambda: _pids(fleet) == before)
    wait_for("what was removed stays away", lambda: {r["name"] for r in fleet.status("kept")["stages"]} == {"a", "b"})
