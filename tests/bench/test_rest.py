"""The load and the judge of the REST row, at their smallest."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from bench import rest, rest_servers
from bench.models import write


@pytest.mark.e2e
def test_a_server_is_checked_before_it_is_loaded(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is missing: run tests/install-real-parts.sh")
    models = write(tmp_path, 200)
    with rest_servers.ours(tmp_path, models.sklearn) as doors:
        for door in doors.values():
            rest._check(door, models)
            rate, p50_ms = rest._load(door, models, 2, 1)
            assert rate > 0
            assert p50_ms > 0
        wrong = [each | {"score": 1 - each["score"]} for each in models.expected]
        with pytest.raises(rest.NotRight, match="/predict answers"):
            rest._check(doors["plain"], dataclasses.replace(models, expected=wrong))
        broken = dataclasses.replace(models, payloads=[b'{"features":[1]}'])
        with pytest.raises(rest.NotRight, match="Non-2xx"):
            rest._load(doors["plain"], broken, 2, 1)
