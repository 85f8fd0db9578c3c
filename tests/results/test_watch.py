"""The watch over the processes raises its alarms."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cluster import wait_for
from support.results.processes import Watch, alive, of_stage, segments

pytestmark = pytest.mark.e2e

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that look like one that runs the stage a."""
    (tmp_path / "spec.json").write_text(json.dumps({"stages": [{"name": "a"}]}))
    argv = [sys.executable, "-c", "input()", "run", "--workspace", str(tmp_path)]
    started: list[subprocess.Popen[bytes]] = []

    def one() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv, stdin=subprocess.PIPE))
        wait_for("it is seen", lambda: started[-1].pid in [sight.pid for sight in segments(tmp_path)])
        return started[-1]

    yield one
    for each in started:
        end(each)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def looked(watch: Watch) -> Callable[[], bool]:
    """Whether the watch has looked again since this was called."""
    before = watch.looks
    return lambda: watch.looks >= before + 2


def test_a_process_is_found_by_its_stage_and_not_when_it_ended(tmp_path: Path, start: Start) -> None:
    process = start()
    found = of_stage(tmp_path, "a")
    assert found is not None
    assert (found.pid, found.workspace, found.status()) == (process.pid, tmp_path, None)
    assert found.peak_bytes() > 2**20
    assert of_stage(tmp_path, "b") is None
    process.kill()
    wait_for("it ended", lambda: not alive(process.pid))
    assert of_stage(tmp_path, "a") is None, "a zombie is gone"


def test_a_second_process_of_one_stage_is_an_alarm(tmp_path: Path, start: Start) -> None:
    with Watch(tmp_path) as watch:
        start()
        wait_for("a look", looked(watch))
        assert watch.alarms == []
        start()
        wait_for("the alarm", lambda: any("2 processes at once" in alarm for alarm in watch.alarms))


@pytest.mark.parametrize(("excused", "changing"), [(False, False), (True, False), (False, True)])
def test_another_process_is_an_alarm_unless_the_test_killed_the_former(
    excused: bool, changing: bool, tmp_path: Path, start: Start
) -> None:
    with Watch(tmp_path, changing=changing) as watch:
        former = start()
        wait_for("a look", looked(watch))
        if excused:
            watch.killed.add(former.pid)
        end(former)
        start()
        wait_for("a look", looked(watch))
    assert bool(watch.alarms) == (not excused and not changing)
