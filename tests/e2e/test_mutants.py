"""The harness can fail: a runtime with one promise broken is reported as loss, the real one is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support import mutants
from support.cluster import cluster
from support.mosquitto import QUIET, Mosquitto
from support.results import pipelines
from support.results.faults import Fault, Kind
from support.results.trial import Queue, Trial

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

AWAY = Fault(0.5, Kind.STOP_BROKER, "far", 2.0)
KILL_AT_S = 1.5
"""Of the last stage, while the broker it writes to is away: what it took is processed, and confirmed by nobody."""


@pytest.mark.parametrize(
    ("mutant", "linked"), [*((name, name in mutants.OF_LINKS) for name in mutants.MUTANTS), ("none", True)]
)
def test_a_broken_promise_is_reported_as_loss(mutant: str, linked: bool, tmp_path: Path) -> None:
    pipeline, stages = (pipelines.two_by_websocket, "ab") if linked else (pipelines.one_stage, "a")
    program = [Path(sys.executable).name, mutants.__file__]
    with (
        Mosquitto(tmp_path / "near", extra=QUIET) as near,
        Mosquitto(tmp_path / "far", extra=QUIET) as far,
        cluster(tmp_path / "cluster") as fleet,
    ):
        fleet.start_agents("edge_node", program=program, env={mutants.VARIABLE: mutant})
        fleet.coord("submit", str(pipeline(tmp_path, (near.port, far.port))))
        trial = Trial(
            "numbered",
            stages,
            Queue("near", "numbered/1"),
            Queue("far", f"numbered/{len(stages) + 1}"),
            records=3_000,
            rate=1000.0,
            make=pipelines.payload,
            expect=pipelines.through(stages),
            faults=[AWAY, Fault(KILL_AT_S, Kind.KILL_STAGE, stages[-1])],
            insist=mutant == "none",
        )
        verdict = trial.run(fleet, {"near": near, "far": far})
    print(verdict)
    if mutant == "none":
        assert verdict.holds, verdict
    else:
        assert len(verdict.lost) >= 100, f"the loss was not seen\n{verdict}"
