"""What is told of a deployment's life: once, when it happens, and nothing of the ordinary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase, Seen
from fogline.coordinator.core.events import Event, Health, Kind, copy_events, turn_events
from fogline.wire.terms import CopyState

COPY = Copy("p/a/0/a", "d1", "n1", "a", 0)
RUNNING = Deployment("p", 3, Phase.RUNNING, 0.0, (COPY,))


def told(*life: Seen) -> list[str]:
    """Everything told of one copy that is seen in these states, one after the other."""
    texts: list[str] = []
    health: dict[Copy, Health] = {}
    for seen in life:
        events, health = copy_events(RUNNING, health, {COPY: seen})
        assert all((each.kind, each.node, each.segment) == (Kind.COPY, "n1", "a") for each in events)
        texts += [each.text for each in events]
    return texts


UNKNOWN, PREPARING, STARTING, READY = (
    Seen(state) for state in (CopyState.UNKNOWN, CopyState.PREPARING, CopyState.STARTING, CopyState.READY)
)


def dead(restarts: int, reason: str = "killed by SIGKILL") -> Seen:
    return Seen(CopyState.RESTARTING, reason, restarts)


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        ([UNKNOWN, PREPARING, STARTING, READY, READY], []),
        (
            [READY, dead(0), dead(0), replace(STARTING, restarts=1), replace(READY, restarts=1)],
            ["restarting: killed by SIGKILL", "ready again (1 restart)"],
        ),
        (
            [READY, *(dead(n) for n in range(6)), replace(READY, restarts=6), dead(6)],
            [
                "restarting: killed by SIGKILL",
                "crash loop, 3 restarts since it was ready: killed by SIGKILL",
                "ready again (6 restarts)",
                "restarting: killed by SIGKILL",
            ],
        ),
        ([READY, replace(READY, restarts=2)], ["died and runs again (2 restarts)"]),
        (
            [READY, Seen(CopyState.FAILED, "KeyError: 'n'"), Seen(CopyState.FAILED, "KeyError: 'n'"), STARTING, READY],
            ["failed: KeyError: 'n'", "ready again"],
        ),
        (
            [READY, replace(READY, reason="q1: broker away"), replace(READY, reason="q1: still away"), READY],
            ["degraded: q1: broker away", "ready again"],
        ),
        ([UNKNOWN, replace(READY, restarts=7), replace(READY, restarts=7)], []),
        ([UNKNOWN, dead(9)], ["restarting: killed by SIGKILL"]),
    ],
    ids=["ordinary", "killed", "loop", "quickly-back", "failed", "degraded", "found-running", "found-dying"],
)
def test_what_befalls_a_copy_is_told_once(life: Sequence[Seen], expected: list[str]) -> None:
    assert told(*life) == expected


def test_copies_that_are_not_in_charge_are_not_told_of() -> None:
    events, health = copy_events(replace(RUNNING, target=(), leaving=(COPY,)), {}, {COPY: dead(1)})
    assert (events, health) == ([], {})
    assert copy_events(replace(RUNNING, phase=Phase.STOPPING), {}, {COPY: dead(1)}) == ([], {})


def test_a_phase_is_told_when_it_is_entered_with_its_reason() -> None:
    preparing = replace(RUNNING, phase=Phase.PREPARING)
    assert turn_events(None, preparing, []) == [Event(Kind.PHASE, "preparing", "p", 3)]
    assert turn_events(preparing, replace(preparing, since_s=5.0), []) == []
    stopped = replace(RUNNING, phase=Phase.STOPPED, reason="not yet heard from n2")
    assert [each.text for each in turn_events(RUNNING, stopped, [])] == ["stopped: not yet heard from n2"]


def test_a_verdict_stands_for_the_phase_it_ends_in() -> None:
    starting = replace(RUNNING, phase=Phase.STARTING)
    good = turn_events(starting, RUNNING, [Outcome(3, True, "revision 3 is running")])
    assert good == [Event(Kind.VERDICT, "revision 3 is running", "p", 3)]
    bad = turn_events(starting, replace(RUNNING, phase=Phase.FAILED), [Outcome(3, False, "it died")])
    assert [each.text for each in bad] == ["revision 3 failed: it died"]
    superseded = turn_events(starting, replace(starting, phase=Phase.PREPARING), [Outcome(2, False, "superseded")])
    assert [each.kind for each in superseded] == [Kind.VERDICT, Kind.PHASE]
