"""What every group of operator calls stands on: the parts of the coordinator, and looking things up in them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc

from fogline.coordinator.artifacts.store import ArtifactStore
from fogline.coordinator.core.deployment import Copy
from fogline.coordinator.core.locks import Resolution
from fogline.coordinator.core.plan import Plan
from fogline.coordinator.padl.parse import parse, without_passwords
from fogline.coordinator.service import status, translate
from fogline.coordinator.service.deployments import Deployments, Submission
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.purging import Purging
from fogline.coordinator.service.records import unambiguous
from fogline.coordinator.store.sql import Store
from fogline.runtimes.spec import SegmentSpec
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.terms import ErrorKind, FoglineError

WATCH_S = 1.0
"""Whoever follows looks again this often even if nothing is heard."""

Context = grpc.aio.ServicerContext[Any, Any]


class Desk(operator_grpc.OperatorCoordinatorServicer):
    """The base of the groups of calls that make up `OperatorService`."""

    def __init__(
        self, store: Store, fleet: Fleet, deployments: Deployments, artifacts: ArtifactStore, cluster_id: str
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._deployments = deployments
        self._artifacts = artifacts
        self._cluster_id = cluster_id
        self.purging = Purging(store, fleet)
        """To be run beside the server."""

    def _resolve(self, id_: str) -> str:
        return unambiguous(id_, self._deployments.ids(), "deployment")

    def _specs(self, id_: str) -> list[tuple[Copy, SegmentSpec]]:
        target = self._deployments.get(id_).target
        return [(copy, self._deployments.parsed(copy)) for copy in target]

    def _status(self, id_: str, revision: int = 0) -> operator.DeploymentStatus:
        return status.deployment_status(self._deployments, self._fleet, id_, revision)

    async def _ordered(self, id_: str) -> operator.DeploymentStatus:
        """The status after an order, once the nodes' sessions had their turn: they are to hear of it first."""
        await asyncio.sleep(0)
        return self._status(id_)

    def _placed(self, submission: Submission) -> Plan:
        """The plan of what could be run as it is. Raises FoglineError for its errors and for missing artifacts."""
        planned = self._deployments.plan(submission)
        if planned.errors:
            raise FoglineError(ErrorKind.UNPLACEABLE, "; ".join(each.message for each in planned.errors))
        if absent := sorted(submission.document.pipeline.keys() - submission.artifacts.keys()):
            sentence = f"the submit names no artifact for {', '.join(absent)}: upgrade the `coord` it came from"
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
        return planned


def submission_of(request: operator.PlanRequest | operator.SubmitRequest) -> Submission:
    """The checked document of a request. Raises FoglineError when it is none."""
    try:
        raw = without_passwords(json.loads(request.document))
    except (ValueError, TypeError, AttributeError) as error:
        raise FoglineError(ErrorKind.INVALID_DOCUMENT, f"the document is not a JSON object: {error}") from error
    document, problems = parse(raw)
    if document is None:
        raise FoglineError(ErrorKind.INVALID_DOCUMENT, "; ".join(each.message for each in problems))
    incompatible = {(each.first, each.second): each.reason for each in request.incompatible}
    locks = request.locks if isinstance(request, operator.SubmitRequest) else ()
    parted = [each for each in request.incompatible if each.requirements_digest]
    return Submission(
        document,
        json.dumps(raw).encode(),
        dict(request.artifacts),
        request.machine_id,
        incompatible,
        Resolution(tuple(sorted(map(translate.known_lock, locks))), tuple(sorted(map(translate.parted, parted)))),
    )
