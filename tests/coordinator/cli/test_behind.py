"""How far behind several copies of a stage are together."""

from __future__ import annotations

from typing import Any

from fogline.coordinator.cli.behind import behind, columns, together
from fogline.coordinator.cli.following import stage_rows
from fogline.v1 import common_pb2 as common
from fogline.v1 import operator_coordinator_pb2 as operator


def a_copy(replica: str, *readings: common.ReadingObserved) -> operator.StageStatus:
    observed = common.StageObserved(name="a", readings=readings)
    return operator.StageStatus(name="a", segment=f"a/{replica}", replica=replica, state="ready", observed=observed)


def a_reading(queue: str, lag: int | None = None, oldest_s: float | None = None) -> common.ReadingObserved:
    return common.ReadingObserved(queue=queue, lag=lag, oldest_s=oldest_s)


def test_each_has_a_part_of_the_lag_and_one_has_the_oldest() -> None:
    first = a_copy("0", a_reading("q", 5, 1.0), a_reading("r", None, 9.0))
    second = a_copy("1", a_reading("q", 7, 3.0), a_reading("r"))
    (row,) = stage_rows(operator.DeploymentStatus(stages=[first, second]))
    reads = [{"queue": "q", "lag": 12, "oldest_s": 3.0}, {"queue": "r", "lag": None, "oldest_s": 9.0}]
    assert (row["lag"], row["oldest_s"], row["reads"]) == (12, 9.0, reads)
    assert [copy["lag"] for copy in row["copies"]] == [5, 7]


def test_copies_of_earlier_releases_say_nothing() -> None:
    nothing: dict[str, Any] = {"lag": None, "oldest_s": None, "reads": []}
    assert behind(common.StageObserved(name="a")) == nothing
    assert together([nothing, nothing]) == nothing
    assert columns([nothing]) == columns([]) == {}


def test_rates_and_requests_add_up_and_what_has_ended_has_no_rate() -> None:
    copies = [a_copy(replica) for replica in "012"]
    for copy in copies:
        copy.observed.MergeFrom(common.StageObserved(rate=2.5, requests=7, errors=1))
    copies[2].state = "finished"
    (row,) = stage_rows(operator.DeploymentStatus(stages=copies))
    assert (row["rate"], row["requests"], row["errors"]) == (5.0, 21, 3)
