"""Records that fail, records that kill, and records that come too fast: nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cluster import Cluster
from support.mosquitto import Mosquitto
from support.results import letters, pipelines
from support.results.processes import of_stage
from support.results.relief import SlowStage
from support.results.trial import WINDOW, Queue, Trial

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(180)]

ENTERS, LEAVES = Queue("broker", "numbered/1"), Queue("broker", "numbered/2")
MORE_BYTES = 50 * 2**20


def test_malformed_records_become_dead_letters_with_their_bytes(
    tmp_path: Path, quiet_broker: Mosquitto, one_node: Cluster
) -> None:
    one_node.coord("submit", str(pipelines.one_stage(tmp_path, (quiet_broker.port, quiet_broker.port))))
    before = of_stage(one_node.folder, "a")
    assert before is not None
    peak_bytes = before.peak_bytes()
    trial = Trial(
        "numbered",
        "a",
        ENTERS,
        LEAVES,
        records=1_000,
        rate=500.0,
        make=pipelines.half_malformed,
        expect=pipelines.half_kept,
        letters=letters.payloads(one_node, "numbered"),
    )
    verdict = trial.run(one_node, {"broker": quiet_broker})
    assert verdict.holds, str(verdict)
    assert len(verdict.history.letters) == 500
    assert of_stage(one_node.folder, "a") == before, "it went on in the same process"
    assert before.peak_bytes() - peak_bytes <= MORE_BYTES


def test_a_record_that_kills_the_process_becomes_a_dead_letter(
    tmp_path: Path, quiet_broker: Mosquitto, one_node: Cluster
) -> None:
    ports = (quiet_broker.port, quiet_broker.port)
    document = pipelines.one_stage(tmp_path, ports, work=pipelines.DEADLY, **{"on-error": {"retries": 1}})
    one_node.coord("submit", str(document))
    trial = Trial(
        "numbered",
        "a",
        ENTERS,
        LEAVES,
        records=3_000,
        rate=1000.0,
        make=pipelines.payload,
        expect=pipelines.all_but_deadly,
        letters=letters.payloads(one_node, "numbered"),
        changing=True,
        crashes=9,
        settle_s=90.0,
    )
    verdict = trial.run(one_node, {"broker": quiet_broker})
    assert verdict.holds, str(verdict)
    assert len(verdict.history.letters) >= 3


def test_a_slow_last_stage_takes_its_window_and_the_rest_waits_in_the_broker(
    tmp_path: Path, quiet_broker: Mosquitto, one_node: Cluster
) -> None:
    slow = SlowStage(tmp_path, one_node, quiet_broker.port, "time.sleep(0.01)")
    verdict = slow.trial(records=5_000, rate=1_000.0).run(one_node, {"broker": quiet_broker})
    assert verdict.holds, str(verdict)
    assert slow.broken(verdict) == []
    assert verdict.history.rows[1]["in"] >= 5_001 - 5 * WINDOW, "most waited in the broker for the fast one"
