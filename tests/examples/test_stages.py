"""The two code stages of the example, called as a segment calls them."""

from __future__ import annotations

import pytest

from support.example import load


def test_features_are_value_and_change_per_field_in_name_order(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = load("preparation/main.py", monkeypatch).handler
    first = handler({"timestamp": "t1", "network": 100, "cpu": 4.0})
    second = handler({"timestamp": "t2", "network": 160, "cpu": 7.0})
    assert first == {
        "timestamp": "t1",
        "values": {"cpu": 4.0, "network": 100.0},
        "features": [4.0, 0.0, 100.0, 0.0],
    }
    assert second["features"] == [7.0, 3.0, 160.0, 60.0]


def test_change_looks_at_the_five_values_before(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = load("preparation/main.py", monkeypatch).handler
    for value in (1000.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        handler({"timestamp": "t", "value": value})
    assert handler({"timestamp": "t", "value": 10.0})["features"] == [10.0, 7.0]


@pytest.mark.parametrize("record", [{"value": 1.0}, {"timestamp": "t", "value": "x"}, {"timestamp": 3}, [1.0], 5])
def test_a_record_that_is_no_measurement_is_refused(record: object, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = load("preparation/main.py", monkeypatch).handler
    with pytest.raises(ValueError, match="timestamp"):
        handler(record)


@pytest.mark.parametrize(("score", "passes"), [(0.0, False), (1.0, False), (1.0001, True), (60.0, True)])
def test_filter_lets_only_anomalies_through(score: float, passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = load("outliers_filter/main.py", monkeypatch).handler
    record = {"timestamp": "t", "values": {"cpu": 1.0}, "score": score}
    assert handler(record) == ({**record, "anomaly": True} if passes else None)
