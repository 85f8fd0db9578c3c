"""What people type for a moment, and how a moment is shown."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from fogline.coordinator.cli.moments import iso, since
from fogline.wire.terms import ErrorKind, FoglineError


@pytest.mark.parametrize(("given", "ago_s"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172800)])
def test_a_span_is_that_long_ago(given: str, ago_s: float) -> None:
    assert time.time() - since(given) == pytest.approx(ago_s, abs=5)


def test_a_time_is_this_machines_unless_it_says_otherwise() -> None:
    assert since("") == 0
    assert since("2026-01-31T12:00Z") == 1769860800
    assert since("2026-01-31T13:00+01:00") == 1769860800
    assert since("2026-01-31T12:00") == datetime(2026, 1, 31, 12).timestamp()
    assert iso(1769860800.1234) == "2026-01-31T12:00:00.123Z"


@pytest.mark.parametrize("given", ["yesterday", "10", "m", "-10m", "10 m", "2026-13-01"])
def test_anything_else_is_refused_with_the_right_forms(given: str) -> None:
    with pytest.raises(FoglineError, match="such as 10m or 2h") as caught:
        since(given)
    assert caught.value.kind is ErrorKind.INVALID_ARGUMENT
