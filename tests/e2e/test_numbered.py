"""Numbered records through three stages while everything is killed under load: nothing lost, contents equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.cluster import Cluster
from support.mosquitto import Mosquitto
from support.results import pipelines
from support.results.faults import Wish, schedule, seed
from support.results.trial import Queue, Trial

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

RECORDS, RATE = 10_000, 1000.0
WISH = Wish(
    from_s=1.0,
    to_s=8.0,
    stage_kills=dict.fromkeys(pipelines.STAGES, 1),
    agents=pipelines.NODES,
    agent_kills=1,
    broker_stops={"broker": 1},
    coordinator_away=(3.0, 6.0),
)
PIPELINES = {
    "queues": pipelines.three_stages,
    "links": pipelines.three_linked,
    "websocket": pipelines.three_by_websocket,
}


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_nothing_is_lost_when_stages_agent_broker_and_coordinator_go_down(
    pipeline: Callable[[Path, int], Path], tmp_path: Path, quiet_broker: Mosquitto, fleet: Cluster
) -> None:
    fleet.coord("submit", str(pipeline(tmp_path, quiet_broker.port)))
    trial = Trial(
        "numbered",
        pipelines.STAGES,
        Queue("broker", "numbered/1"),
        Queue("broker", "numbered/4"),
        RECORDS,
        RATE,
        pipelines.payload,
        pipelines.through(pipelines.STAGES),
        schedule(seed(), replace(WISH, kills_apart_s=2.0 if pipeline is pipelines.three_by_websocket else 0.0)),
    )
    verdict = trial.run(fleet, {"broker": quiet_broker})
    print(verdict)
    assert verdict.holds, verdict
