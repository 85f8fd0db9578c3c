"""What became of each revision, and what a further one would change. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase

_GIVEN_UP = ("superseded", "stopped")
"""How a verdict begins on a revision that did not fail by itself."""
_FORMER = {Phase.PREPARING: "running", Phase.DRAINING: "draining"}


@dataclass(frozen=True)
class SegmentChange:
    """What a revision does to one segment: kept, restarted, moved, new or removed."""

    segment: str
    change: str
    node: str
    """Where it will be; of a removed one empty."""
    former_node: str
    """Where it was; of a new one empty."""


def became(outcome: Outcome | None, number: int, deployment: Deployment, shown: str) -> str:
    """The state of revision `number`. `shown` is the deployment's own, which is that of the revision in charge.

    Of any other: `running` or `draining` while it waits to be replaced, `superseded` when a later one took its
    place, `failed`, or `stopped` when it was stopped before it ever ran.
    """
    if number == deployment.revision:
        return shown
    if outcome is None or outcome.succeeded:
        replaced = number == deployment.former_revision
        return _FORMER.get(deployment.phase, "superseded") if replaced else "superseded"
    return next((word for word in _GIVEN_UP if outcome.text.startswith(word)), "failed")


def changes(before: Sequence[Copy], after: Sequence[Copy]) -> list[SegmentChange]:
    """Segment by segment, upstream first; those that go come last."""
    old, new = ({copy.label: copy for copy in copies} for copies in (before, after))
    found = [
        SegmentChange(copy.label, _change(old.get(copy.label), copy), copy.node, _node(old.get(copy.label)))
        for copy in sorted(after, key=lambda each: (each.depth, each.segment, each.assignment))
    ]
    gone = sorted(old.keys() - new.keys(), key=lambda name: (old[name].depth, name))
    return found + [SegmentChange(name, "removed", "", old[name].node) for name in gone]


def _change(old: Copy | None, new: Copy) -> str:
    if old is None:
        return "new"
    if old.node != new.node:
        return "moved"
    return "kept" if old.spec_digest == new.spec_digest else "restarted"


def _node(copy: Copy | None) -> str:
    return copy.node if copy else ""
