"""The example of fifty gateways, with three."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support.cluster import cluster, wait_for
from support.example import EXAMPLE
from support.mosquitto import Mosquitto
from support.results.collector import Collector
from support.results.producer import publish

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

GATEWAYS = {"gw-1": "north", "gw-2": "north", "gw-3": "south"}


def test_every_gateway_condenses_its_own_readings_and_the_hot_ones_are_named(tmp_path: Path, broker: Mosquitto) -> None:
    folder = tmp_path / "gateways"
    subprocess.run(["cp", "-r", str(EXAMPLE.parent / "gateways"), str(folder)], check=True)
    ports = [f"--set=queues.{name}.props.port={broker.port}" for name in ("readings", "summaries", "alarms")]
    with cluster(tmp_path / "cluster", "cloud_1") as fleet, Collector(broker.port, "plant/alarms") as collector:
        for name, line in GATEWAYS.items():
            fleet.start_agents(name, labels={"line": line})
        fleet.coord("submit", str(folder / "pipeline.json"), *ports)
        rows = {row["name"]: row for row in fleet.status("gateways")["stages"]}
        assert [copy["node"] for copy in rows["condense"]["copies"]] == ["gw-1", "gw-2", "gw-3"]
        assert len(rows["watch"]["copies"]) == 2
        assert fleet.coord("logs", "gateways", "cond").returncode == 0, "copies of a stage are one stage"
        for name, line in GATEWAYS.items():
            hot = 30.0 if name == "gw-2" else 0.0
            readings = [json.dumps({"celsius": 60 + n + hot}).encode() for n in range(10)]
            publish(broker.port, f"plant/{line}/{name}/temperature", readings)
        wait_for("the alarm", lambda: collector.payloads)
        wait_for("every summary was looked at", lambda: fleet.stage("gateways", "watch")["in"] == len(GATEWAYS))
    (alarm,) = collector.records
    assert alarm == {
        "gateway": "gw-2",
        "line": "north",
        "mean": 94.5,
        "highest": 99.0,
        "alarm": "gw-2 on line north: 99.0 degrees",
    }
