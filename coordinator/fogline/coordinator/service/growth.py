"""Copies for nodes that join after a submit, of segments that have one on each node."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace

from fogline.coordinator.core.copies import joined, unserved
from fogline.coordinator.core.deployment import Deployment
from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.place import Circumstances, admits
from fogline.coordinator.padl.parse import parse
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.lines import Lines
from fogline.coordinator.store.sql import Store

log = logging.getLogger(__name__)


class Growth:
    """Gives such nodes their copies, and remembers which cannot have one."""

    def __init__(self, store: Store, fleet: Fleet, lines: Lines) -> None:
        self._store = store
        self._fleet = fleet
        self._lines = lines
        self._looked_at: dict[str, tuple[int, list[Node]]] = {}
        """Deployment -> revision, and the nodes that were considered, as they were."""
        self._lacking: dict[str, tuple[int, list[str]]] = {}
        """Deployment -> revision, and why nodes have no copy."""

    def lacking(self, deployment: Deployment) -> list[str]:
        """Why nodes that should have a copy have none, a sentence each."""
        revision, sentences = self._lacking.get(deployment.id, (0, []))
        return sentences if revision == deployment.revision else []

    def grown(self, deployment: Deployment, given: Callable[[], Circumstances]) -> Deployment:
        """The deployment with copies for the nodes that joined since."""
        fresh = unserved(deployment, self._fleet.nodes())
        looked_at = (deployment.revision, [node for _, node in fresh])
        if not fresh:
            self._lacking.pop(deployment.id, None)
        if not fresh or self._looked_at.get(deployment.id) == looked_at:
            return deployment
        self._looked_at[deployment.id] = looked_at
        revision = self._store.revision(deployment.id, deployment.revision)
        document, _ = parse(json.loads(revision.document or b"{}"))
        circumstances, locks = given(), revision.resolution.by_place
        copies, specs, lacking = list(deployment.target), dict[str, bytes](), list[str]()
        for like, node in fresh:
            runs = self._lines.parsed(like.spec_digest)
            stages = [stage.name for stage in runs.stages]
            if document is None or not admits(document, stages, node, circumstances):
                continue
            if node.target and (like.segment, node.target) not in locks:
                lacking.append(f"node {node.name} has no copy of {like.segment}: its packages are not resolved for "
                               f"{node.target}, submit again")  # fmt: skip
                continue
            copy, spec = joined(like, runs, document, revision.artifacts, node, locks)
            specs[copy.spec_digest] = spec
            copies.append(copy)
            log.info("deployment %s: node %s joined, and gets a copy of %s", deployment.id, node.name, like.segment)
        for sentence in lacking:
            log.warning("deployment %s: %s", deployment.id, sentence)
        self._lacking[deployment.id] = (deployment.revision, lacking)
        self._store.keep_specs(specs)
        return replace(deployment, target=tuple(sorted(copies)))
