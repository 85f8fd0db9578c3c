"""What an agent reports that has become all that it was told to be."""

from __future__ import annotations

from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common

_BECOMES = {common.WANTED_PREPARED: common.COPY_STATE_PREPARED, common.WANTED_RUNNING: common.COPY_STATE_READY}


def as_wanted(desired: agent.DesiredState) -> list[common.CopyObserved]:
    """Every copy in the state that is wanted of it; one that shall stop is gone, so not there."""
    return [
        common.CopyObserved(
            assignment=each.id,
            spec_digest=each.spec_digest,
            state=_BECOMES[each.wanted],
            incarnation=each.incarnation,
        )
        for each in desired.assignments
        if each.wanted in _BECOMES
    ]
