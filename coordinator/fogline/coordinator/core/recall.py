"""Calling back a copy whose reader another one took over. Pure.

Such a copy ends and does not come back by itself, or the two would evict each other for ever. It may be the wrong
one that ended: a node that was away while its part was given to another starts it once more before it hears so.
Once nothing of the assignment is left to end elsewhere, the copy that is wanted is confirmed, by a higher
incarnation. Once between two orders: against a stranger that reads under the same name this is the only try.
"""

from __future__ import annotations

from dataclasses import replace

from fogline.coordinator.core.deployment import Copy, Deployment, Observed, Phase, Seen
from fogline.runtimes.spec import SUPERSEDED
from fogline.wire.terms import CopyState


def recall(deployment: Deployment, observed: Observed) -> Deployment:
    """The deployment with every superseded copy that may come back called back."""
    d = deployment
    if d.phase is not Phase.RUNNING:
        return d
    ending = {copy.assignment for copy in d.leaving}
    due = [
        copy.assignment
        for copy in d.target
        if copy.assignment not in ending and copy.assignment not in d.recalled and _superseded(d, copy, observed)
    ]
    if not due:
        return d
    raised = {each: d.incarnations.get(each, 0) + 1 for each in due}
    return replace(d, incarnations={**d.incarnations, **raised}, recalled={**d.recalled, **raised})


def _superseded(d: Deployment, copy: Copy, observed: Observed) -> bool:
    seen = observed.get(copy, Seen())
    current = seen.incarnation >= d.incarnations.get(copy.assignment, 0)
    return seen.node_connected and current and seen.state is CopyState.FAILED and seen.reason.startswith(SUPERSEDED)
