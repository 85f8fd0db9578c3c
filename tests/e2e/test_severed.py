"""The network of a node goes away under load, and comes back: nothing lost, and no process was replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import link
from support.results import pipelines, severed
from support.results.faults import Wish, schedule, seed
from support.results.trial import Queue, Trial

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.network, pytest.mark.timeout(180)]

WISH = Wish(from_s=1.0, to_s=8.0, cuts={severed.STAGE: (2.0, 6.0)})


def test_nothing_is_lost_when_the_network_of_a_node_is_cut(tmp_path: Path) -> None:
    if what := link.missing():
        pytest.skip(f"a network that can be cut needs {what}")
    with severed.node(tmp_path, *pipelines.NODES) as (cable, brokers, fleet):
        fleet.coord("submit", str(severed.mixed(tmp_path, brokers, cable.here)))
        trial = Trial(
            pipelines.ID,
            pipelines.STAGES,
            Queue("broker", "numbered/1"),
            Queue("kafka", "numbered.4"),
            10_000,
            1000.0,
            pipelines.payload,
            pipelines.through(pipelines.STAGES),
            schedule(seed(), WISH),
            links={severed.STAGE: cable},
        )
        verdict = trial.run(fleet, brokers)
    print(verdict)
    assert verdict.holds, verdict
