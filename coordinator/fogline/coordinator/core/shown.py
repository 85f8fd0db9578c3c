"""A deployment in a word and a sentence, for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fogline.coordinator.core.deployment import Deployment, Observed, Phase, Seen
from fogline.wire.terms import CopyState

NAMED = 5
"""Absent nodes that are named; of more the number is told."""


def shown_state(deployment: Deployment, observed: Observed) -> tuple[str, str]:
    """State and reason for people: `degraded` names the first copy that is not ready, and why."""
    if deployment.phase is not Phase.RUNNING:
        return deployment.phase.value, deployment.reason
    absent = list[str]()
    for copy in deployment.target:
        seen = observed.get(copy, Seen())
        if seen.state is CopyState.FINISHED:
            continue
        if copy.each and not seen.node_connected:
            absent.append(copy.node)
            continue
        if not seen.node_connected:
            reason = f"node {copy.node} is not connected; segment {copy.segment} was {seen.state} when last heard"
            return "degraded", reason
        if seen.state is not CopyState.READY or seen.reason:
            reason = f"segment {copy.segment} on {copy.node} is {seen.state}"
            return "degraded", f"{reason}: {seen.reason}" if seen.reason else reason
    return "running", "; ".join(filter(None, (deployment.reason, _absent(absent))))


def _absent(nodes: Sequence[str]) -> str:
    """Of copies on each node, those that nobody waits for."""
    if not nodes:
        return ""
    named = ", ".join(nodes[:NAMED]) + (f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else "")
    return f"not connected, and served when they come back: {named}"
