"""What is known of a copy right now, from what its node said last and what the node was told."""

from __future__ import annotations

from fogline.coordinator.core.deployment import Copy, Deployment, Seen
from fogline.coordinator.service import translate
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.lines import Lines
from fogline.runtimes.spec import HealthSpec
from fogline.wire.terms import CopyState, Wanted


class Views:
    """Puts together what nodes said and what they were told."""

    def __init__(self, fleet: Fleet, lines: Lines) -> None:
        self._fleet = fleet
        self._lines = lines

    def of(self, deployment: Deployment) -> dict[Copy, Seen]:
        """What is known of every copy that is in charge, to be replaced, or on its way out."""
        copies = {*deployment.target, *deployment.former, *deployment.leaving}
        return {copy: self._seen(copy) for copy in copies}

    def _seen(self, copy: Copy) -> Seen:
        record = self._fleet.records.get(copy.node)
        if record is None:
            return Seen(node_connected=False)
        connected = record.session is not None
        reported = record.observed.get((copy.assignment, copy.spec_digest))
        if reported is not None:
            return translate.seen(reported, connected, self._health(copy))
        line = self._lines.get(copy)
        answered = line is not None and record.observed_generation >= line.generation
        if line is not None and line.want.wanted is Wanted.STOPPED and answered:
            return Seen(CopyState.GONE, node_connected=connected)
        return Seen(node_connected=connected, health=self._health(copy))

    def _health(self, copy: Copy) -> HealthSpec:
        return self._lines.parsed(copy.spec_digest).health
