"""How far behind its readers are, from a process's status to the coordinator; and a process that does not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fogline.agent import translate
from fogline.agent.attendance import absorb
from fogline.agent.copies import Copy
from fogline.agent.core.desired import CopyKey
from fogline.agent.core.observed import CopySeen, Observation, ReadingSeen, StageSeen
from fogline.agent.host.control import Silent
from fogline.agent.host.workspace import Workspace
from fogline.wire.terms import CopyState
from support.agent_builders import a_spec, a_wish

READS = {"queue": "raw", "connected": True, "error": "", "reader": "clean", "lag": 3, "oldest_s": 1.5}


def told(*connections: Any) -> tuple[ReadingSeen, ...]:
    """What a copy shows after such a status."""
    wish = a_wish(a_spec())
    copy = Copy(wish, Workspace.of(Path("/nowhere"), wish.key), lambda: None)
    absorb(copy, {"state": "ready", "stages": [{"name": "clean", "counters": {}}], "connections": list(connections)})
    return copy.stages[0].readings


def test_each_queue_that_a_stage_reads_is_told() -> None:
    other = READS | {"queue": "more", "lag": None, "oldest_s": None}
    elsewhere = READS | {"reader": "another"}
    written = {"queue": "out", "connected": True, "error": ""}
    assert told(READS, other, elsewhere, written) == (ReadingSeen("raw", 3, 1.5), ReadingSeen("more"))


def test_a_process_of_an_earlier_release_tells_nothing() -> None:
    assert told({"queue": "raw", "connected": True, "error": ""}) == ()


@pytest.mark.parametrize("nonsense", [{"lag": "many"}, {"oldest_s": []}])
def test_nonsense_is_no_answer(nonsense: dict[str, Any]) -> None:
    with pytest.raises(Silent):
        told(READS | nonsense)


def test_what_is_not_known_is_absent_from_the_message() -> None:
    stage = StageSeen("clean", readings=(ReadingSeen("raw", 0, 0.0), ReadingSeen("more")))
    seen = CopySeen(CopyKey("p/clean/0/a", "d"), CopyState.READY, stages=(stage,))
    first, second = translate.observation(Observation((seen,), 1, 1)).copies[0].stages[0].readings
    assert (first.queue, first.HasField("lag"), first.HasField("oldest_s")) == ("raw", True, True)
    assert (second.queue, second.HasField("lag"), second.HasField("oldest_s")) == ("more", False, False)


def test_rates_and_requests_are_passed_on() -> None:
    wish = a_wish(a_spec())
    copy = Copy(wish, Workspace.of(Path("/nowhere"), wish.key), lambda: None)
    stages = [{"name": "clean", "counters": {}, "rate": 2.5, "requests": 7, "errors": 1}, {"name": "older"}]
    absorb(copy, {"state": "ready", "stages": stages})
    seen = CopySeen(wish.key, CopyState.READY, stages=copy.stages)
    new, old = translate.observation(Observation((seen,), 1, 1)).copies[0].stages
    assert (new.rate, new.requests, new.errors) == (2.5, 7, 1)
    assert (old.rate, old.requests, old.errors) == (0.0, 0, 0)
