from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.rows import Row, as_json, compared, measured, not_compared, percentile, table, unmeasured
from bench.size import Size


def test_medians_of_both_and_the_median_of_each_pair() -> None:
    row = compared("stage", "records/s", "naive", [(10.0, 2.0), (30.0, 1.0), (20.0, 10.0)], ">= 5x")
    assert (row.ours, row.theirs, row.ratio) == (20.0, 2.0, 5.0)
    assert row.holds is True


@pytest.mark.parametrize(
    ("budget", "ours", "ratio", "holds"),
    [
        (">= 15x", 1.0, 15.0, True),
        (">= 15x", 99.0, 14.9, False),
        ("<= 3x", 99.0, 3.0, True),
        ("<= 3x", 1.0, 3.1, False),
        ("<= 48 MB", 48.0, None, True),
        ("<= 48 MB", 48.1, None, False),
        ("<= 3x", 1.0, None, None),
        (None, 1.0, 2.0, None),
    ],
)
def test_a_budget_says_which_way_is_good(
    budget: str | None, ours: float, ratio: float | None, holds: bool | None
) -> None:
    assert Row("row", ours, "MB", "peer", None, ratio, budget).holds is holds


@pytest.mark.parametrize("budget", ["about 3x", "<= 3 s", "< 3x"])
def test_a_budget_that_cannot_be_judged_is_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="row"):
        _ = measured("row", 1.0, "MB", budget).holds


def test_percentiles() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.5)) == (50.0, 99.0, 7.0)


def test_the_file_has_one_object_a_row() -> None:
    row = measured("agent", 50.0, "MB", "<= 48 MB")
    assert json.loads(as_json([row])) == [
        {
            "name": "agent",
            "ours": 50.0,
            "unit": "MB",
            "against": None,
            "theirs": None,
            "ratio": None,
            "budget": "<= 48 MB",
            "holds": False,
        }
    ]


def test_the_table_marks_what_does_not_hold_and_what_was_not_measured() -> None:
    rows = [
        compared("stage", "records/s", "naive", [(10_000.0, 500.0)], ">= 15x"),
        measured("agent", 50.25, "MB", "<= 48 MB"),
        not_compared("stage", 10_000.0, "records/s", "bytewax: not installed", ">= 1.2x"),
        unmeasured("fleet"),
    ]
    lines = [" ".join(line.split()) for line in table(rows).splitlines()[2:]]
    assert lines == [
        "stage 10,000 records/s naive 500 records/s 20x >= 15x holds",
        "agent 50.2 MB <= 48 MB DOES NOT HOLD",
        "stage 10,000 records/s bytewax: not installed >= 1.2x NOT COMPARED",
        "fleet NOT MEASURED",
    ]


def broken(_folder: Path, _size: Size) -> list[Row]:
    raise RuntimeError("no broker")


def test_only_a_row_that_could_not_be_measured_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = measured("slow", 9.0, "s", "<= 3 s")
    monkeypatch.setattr(bench, "GROUPS", {"slow": lambda _folder, _size: [over], "broken": broken})
    output = tmp_path / "build" / "bench.json"
    assert bench.main(["--rows", "slow", "--output", str(output)]) == 0
    assert [row["holds"] for row in json.loads(output.read_text())] == [False]
    assert bench.main(["--output", str(output)]) == 1
    assert [row["ours"] for row in json.loads(output.read_text())] == [9.0, None]
    assert "no broker" in capsys.readouterr().err


def test_a_group_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--rows", "hop,speed"]) == 2
    assert "'speed'; there are mqtt, kafka, hop," in capsys.readouterr().err
