"""The status of a deployment as `coord` shows it: one row per stage."""

from __future__ import annotations

from fogline.coordinator.core.deployment import OVER, Copy, Deployment, Phase, Seen
from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.ports import Door
from fogline.coordinator.core.shown import shown_state
from fogline.coordinator.service.deployments import Deployments, settled
from fogline.coordinator.service.fleet import Fleet
from fogline.v1 import common_pb2 as common
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.terms import CopyState


def deployment_status(deployments: Deployments, fleet: Fleet, id_: str, revision: int) -> operator.DeploymentStatus:
    """The deployment now; with `revision`, `settled` and `verdict` are about that revision."""
    deployment = deployments.get(id_)
    observed = deployments.observed(id_)
    state, reason = shown_state(deployment, observed)
    result = operator.DeploymentStatus(
        id=id_,
        revision=deployment.revision,
        state=state,
        reason=reason,
        document=deployments.document(id_),
        settled=settled(deployment),
        succeeded=state in {"running", "finished"},
        verdict=f"finished: {reason}" if state == "finished" else reason or state,
    )
    result.reason = "; ".join([*filter(None, [reason]), *deployments.growth.lacking(deployment)])
    for copy in sorted(deployment.target, key=lambda each: (each.depth, each.segment, each.assignment)):
        result.stages.extend(_stage_rows(deployments, fleet, deployment, copy, observed[copy]))
    result.endpoints.extend(_endpoints(deployments, fleet, deployment))
    if revision and deployment.phase is not Phase.STOPPED:
        outcome = deployments.outcome(id_, revision)
        result.settled = outcome is not None
        result.succeeded = outcome is not None and outcome.succeeded
        result.verdict = outcome.text if outcome else ""
    return result


def _endpoints(deployments: Deployments, fleet: Fleet, deployment: Deployment) -> list[operator.Endpoint]:
    """Where its segments take requests, the first of them first; none of what does not run."""
    if deployment.phase in OVER:
        return []
    nodes = {node.name: node for node in fleet.nodes()}
    found = []
    for copy in sorted(deployment.target, key=lambda each: (each.depth, each.assignment)):
        spec = deployments.parsed(copy)
        if spec.serving is not None:
            door = Door(nodes.get(copy.node, Node(copy.node)), spec.serving.port, bool(spec.serving.tls_name))
            alone = len(spec.stages) == 1 and not spec.serving.forward
            models = dict.fromkeys([spec.serving.model, *([spec.stages[0].name] if alone else [])])
            found.append(operator.Endpoint(segment=copy.segment, url=f"{door.url}/", models=models))
    return found


def _stage_rows(
    deployments: Deployments, fleet: Fleet, deployment: Deployment, copy: Copy, seen: Seen
) -> list[operator.StageStatus]:
    record = fleet.records.get(copy.node)
    reported = record.observed.get((copy.assignment, copy.spec_digest)) if record else None
    counted = {each.name: each for each in reported.stages} if reported else {}
    return [
        operator.StageStatus(
            name=stage.name,
            segment=copy.label,
            replica=copy.replica,
            node=copy.node,
            state=_shown(deployment, seen),
            reason=seen.reason,
            pid=reported.pid if reported else 0,
            restarts=seen.restarts,
            observed=counted.get(stage.name, common.StageObserved(name=stage.name)),
            progress=seen.progress,
            last_lines=reported.last_lines if reported else "",
        )
        for stage in deployments.parsed(copy).stages
    ]


def _shown(deployment: Deployment, seen: Seen) -> str:
    if deployment.phase in {Phase.STOPPED, Phase.FAILED} and seen.state in {
        CopyState.GONE,
        CopyState.UNKNOWN,
    }:
        return "stopped"
    return seen.state.value
