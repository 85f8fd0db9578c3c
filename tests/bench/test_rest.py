"""The load and the judge of the REST row, at their smallest."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import pytest

from bench import rest_servers
from bench.models import write
from bench.process_figures import MB, family_bytes
from bench.rest_crowd import crowd
from bench.rest_load import NotRight, check, load


@pytest.mark.e2e
def test_a_server_is_checked_before_it_is_loaded(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is missing: run tests/install-real-parts.sh")
    models = write(tmp_path, 200)
    with rest_servers.ours(tmp_path, models.sklearn) as running:
        for door in running.doors.values():
            check(door, models)
            found = load(door, models, 2, 1)
            assert found.rate > 0
            assert 0 < found.p50_ms <= found.p99_ms
        assert 0 < running.start_s < 20
        assert 20 < family_bytes(running.pid) / MB < 500
        wrong = [each | {"score": 1 - each["score"]} for each in models.expected]
        plain = running.doors["plain"]
        with pytest.raises(NotRight, match="/predict answers"):
            check(plain, dataclasses.replace(models, expected=wrong))
        broken = dataclasses.replace(models, payloads=[b'{"features":[1]}'])
        with pytest.raises(NotRight, match="Non-2xx"):
            load(plain, broken, 2, 1)
        with crowd(plain, 60):
            check(plain, models)
        with pytest.raises(NotRight, match="of 60 connections"), crowd(plain, 60):
            os.kill(running.pid, signal.SIGKILL)
