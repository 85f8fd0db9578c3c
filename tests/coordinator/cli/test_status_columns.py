"""RATE of `coord status`; LAG and OLDEST: there when an agent tells them, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fogline.v1 import common_pb2 as common
from support.conversation import brought_up, obedient, run, until
from support.coord_command import coord
from support.fake_agent import Served, served

pytestmark = pytest.mark.e2e

READINGS = [
    common.ReadingObserved(queue="q1", lag=40, oldest_s=0.25),
    common.ReadingObserved(queue="q2", lag=2, oldest_s=61.25),
    common.ReadingObserved(queue="q3"),
]


async def _observed(service: Served, edge: Any, readings: list[common.ReadingObserved], generation: int) -> None:
    copies = [
        common.CopyObserved(
            assignment=copy.assignment,
            spec_digest=copy.spec_digest,
            state=common.COPY_STATE_READY,
            stages=[common.StageObserved(name=copy.segment, readings=readings, rate=1234.5, requests=9, errors=2)]
            if copy.segment == "b"
            else [common.StageObserved(name=copy.segment, rate=0.25)],
        )
        for copy in service.deployments.get("p").target
    ]
    await edge.observe(*copies, generation=generation)
    await until("heard", lambda: service.fleet.records["edge"].observed_generation == generation)


def test_a_stage_that_is_behind_says_how_far(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service)
            await _observed(service, edge, READINGS, 99)
            lines = (await coord(service, "status", "p")).lines
            assert lines[1].endswith("P50 P99 LAG OLDEST")
            assert [" ".join(line.split()[-3:]) for line in lines[2:5]] == ["ms - -", "42 61.2 s", "ms - -"]
            rows = (await coord(service, "status", "p", "-o", "json")).json["stages"]
            assert [word for line in lines[2:5] for word in line.split() if word.endswith("/s")] == [
                "0.2/s",
                "1,234/s",
                "0.2/s",
            ]
            assert [(row["rate"], row["requests"], row["errors"]) for row in rows][:2] == [(0.25, 0, 0), (1234.5, 9, 2)]
            found = {row["name"]: (row["lag"], row["oldest_s"], row["reads"]) for row in rows}
            reads = [
                {"queue": "q1", "lag": 40, "oldest_s": 0.25},
                {"queue": "q2", "lag": 2, "oldest_s": 61.25},
                {"queue": "q3", "lag": None, "oldest_s": None},
            ]
            assert found == {"a": (None, None, []), "b": (42, 61.25, reads), "c": (None, None, [])}

    run(test())


@pytest.mark.parametrize(
    ("readings", "columns"),
    [
        ([], "P50 P99"),
        ([common.ReadingObserved(queue="q")], "P50 P99"),
        ([common.ReadingObserved(queue="q", lag=0)], "P50 P99 LAG"),
        ([common.ReadingObserved(queue="q", oldest_s=0.0)], "P50 P99 OLDEST"),
    ],
    ids=["an older agent", "nothing known", "lag", "oldest"],
)
def test_a_column_that_would_be_empty_is_left_out(
    tmp_path: Path, readings: list[common.ReadingObserved], columns: str
) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service)
            await _observed(service, edge, readings, 99)
            assert (await coord(service, "status", "p")).lines[1].endswith(f"AGAIN RATE {columns}")

    run(test())
