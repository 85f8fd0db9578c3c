"""Numbered records through three stages while everything is killed under load: nothing lost, contents equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.cluster import Cluster
from support.kafka import Kafka
from support.mosquitto import Mosquitto
from support.results import pipelines
from support.results.faults import Wish, schedule, seed
from support.results.trial import Queue, Trial

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

RECORDS, RATE = 10_000, 1000.0
WISH = Wish(
    from_s=1.0,
    to_s=5.0,
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


MIXED = Wish(
    from_s=1.0,
    to_s=5.0,
    stage_kills={"b": 2, "c": 1},
    broker_stops={"broker": 1, "kafka": 1},
)


def test_nothing_is_lost_from_mqtt_to_kafka_when_stages_and_both_brokers_go_down(
    tmp_path: Path, quiet_broker: Mosquitto, own_kafka: Kafka, fleet: Cluster
) -> None:
    fleet.coord("submit", str(pipelines.mixed(tmp_path, quiet_broker.port, own_kafka.port)))
    trial = Trial(
        "numbered",
        pipelines.STAGES,
        Queue("broker", "numbered/1"),
        Queue("kafka", "numbered.4"),
        RECORDS,
        RATE,
        pipelines.payload,
        pipelines.through(pipelines.STAGES),
        schedule(seed(), MIXED),
    )
    verdict = trial.run(fleet, {"broker": quiet_broker, "kafka": own_kafka})
    print(verdict)
    assert verdict.holds, verdict


EXACT = Wish(from_s=1.0, to_s=6.0, stage_kills={"a": 4})


def test_nothing_is_lost_and_nothing_comes_twice_from_kafka_to_kafka_exactly_once(
    tmp_path: Path, own_kafka: Kafka, one_node: Cluster
) -> None:
    one_node.coord("submit", str(pipelines.exact(tmp_path, own_kafka.port)))
    trial = Trial(
        "numbered",
        "a",
        Queue("kafka", "numbered.1"),
        Queue("kafka", "numbered.2"),
        RECORDS,
        RATE,
        pipelines.payload,
        pipelines.through("a"),
        schedule(seed(), EXACT),
        telling=False,
    )
    verdict = trial.run(one_node, {"kafka": own_kafka})
    print(verdict)
    assert verdict.holds, verdict
    assert verdict.duplicates == 0, verdict
