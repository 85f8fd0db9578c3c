"""What became of a revision, and what a further one would change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase
from fogline.coordinator.core.history import became, changes
from fogline.coordinator.core.orders import stopped, submitted

COPY = Copy("p/a/0/a", "d1", "n1", "a", 0)
RUNNING = Deployment("p", 3, Phase.RUNNING, 0.0, (COPY,))


@pytest.mark.parametrize(
    ("number", "outcome", "phase", "expected"),
    [
        (3, None, Phase.PREPARING, "shown"),
        (2, Outcome(2, True, "revision 2 is running"), Phase.PREPARING, "running"),
        (2, Outcome(2, True, "revision 2 is running"), Phase.DRAINING, "draining"),
        (2, Outcome(2, True, "revision 2 is running"), Phase.STARTING, "superseded"),
        (1, Outcome(1, True, "revision 1 is running"), Phase.RUNNING, "superseded"),
        (1, Outcome(1, False, "it died"), Phase.RUNNING, "failed"),
        (1, None, Phase.RUNNING, "superseded"),
    ],
)
def test_the_state_of_a_revision(number: int, outcome: Outcome | None, phase: Phase, expected: str) -> None:
    deployment = replace(RUNNING, phase=phase, former_revision=2 if phase is not Phase.RUNNING else 0)
    assert became(outcome, number, deployment, "shown") == expected


def test_a_revision_given_up_on_the_way_did_not_fail() -> None:
    starting = replace(RUNNING, phase=Phase.STARTING)
    after, superseded = submitted(starting, 4, (COPY,), {}, 1.0)
    assert superseded is not None
    assert became(superseded, 3, after, "preparing") == "superseded"
    _, ended = stopped(starting, 1.0)
    assert became(ended, 3, replace(RUNNING, revision=5), "running") == "stopped"


def test_changes_go_segment_by_segment_from_upstream_to_downstream() -> None:
    a, b, c, d = (Copy(f"p/{name}/0/a", "d1", "n1", name, depth) for depth, name in enumerate("abcd"))
    before = (a, b, c, d)
    after = (replace(c, node="n2", spec_digest="d2"), a, replace(b, spec_digest="d2"), replace(a, segment="z", depth=9))
    found = [(each.segment, each.change, each.node, each.former_node) for each in changes(before, after)]
    assert found == [
        ("a", "kept", "n1", "n1"),
        ("b", "restarted", "n1", "n1"),
        ("c", "moved", "n2", "n1"),
        ("z", "new", "n1", ""),
        ("d", "removed", "", "n1"),
    ]
