"""The gRPC edge towards `coord`: documents in, plans, statuses, records and logs out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc

from fogline.coordinator.artifacts.store import ArtifactStore
from fogline.coordinator.core.deployment import Copy
from fogline.coordinator.padl.parse import parse, without_passwords
from fogline.coordinator.service import status, translate
from fogline.coordinator.service.deployments import Deployments, Submission, settled
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.records import find_tap, first_queue, segments_of, unambiguous
from fogline.runtimes.spec import SegmentSpec
from fogline.runtimes.spec import parse as parse_spec
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire import version
from fogline.wire.errors import answering
from fogline.wire.terms import ErrorKind, FoglineError

PROBE_S = 2.0
LOGS_S = 20.0
PUBLISH_S = 60.0
WATCH_S = 1.0

Context = grpc.aio.ServicerContext[Any, Any]


class OperatorService(operator_grpc.OperatorCoordinatorServicer):
    """Translate, call, translate back."""

    def __init__(self, fleet: Fleet, deployments: Deployments, artifacts: ArtifactStore, cluster_id: str) -> None:
        self._fleet = fleet
        self._deployments = deployments
        self._artifacts = artifacts
        self._cluster_id = cluster_id

    async def Handshake(self, request: operator.HandshakeRequest, context: Context) -> operator.HandshakeReply:
        """Both sides say who they are; either may refuse."""
        async with answering(context):
            version.check_peer("coord", request.protocol, request.release)
            return operator.HandshakeReply(
                protocol=version.PROTOCOL, release=version.release(), cluster_id=self._cluster_id
            )

    async def ListNodes(self, request: operator.ListNodesRequest, context: Context) -> operator.ListNodesReply:
        """Every node ever seen, by name."""
        async with answering(context):
            return operator.ListNodesReply(
                nodes=[
                    operator.Node(
                        facts=record.facts,
                        state=record.state.value,
                        seen_s_ago=record.silent_s,
                        assignments=len(record.observed),
                        release=record.release,
                    )
                    for _, record in sorted(self._fleet.records.items())
                ]
            )

    async def Plan(self, request: operator.PlanRequest, context: Context) -> operator.PlanReply:
        """What would become of the document, with all its problems."""
        async with answering(context):
            return translate.plan_reply(self._deployments.plan(_submission(request)))

    async def MissingArtifacts(
        self, request: operator.MissingArtifactsRequest, context: Context
    ) -> operator.MissingArtifactsReply:
        """Which blobs the submitter must upload."""
        async with answering(context):
            return operator.MissingArtifactsReply(digests=self._artifacts.missing(list(request.digests)))

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[operator.UploadArtifactRequest], context: Context
    ) -> operator.UploadArtifactReply:
        """One blob, verified against its digest before it counts."""
        async with answering(context):
            first = await anext(aiter(request_iterator))
            with self._artifacts.writer(first.digest) as writer:
                writer.write(first.data)
                async for piece in request_iterator:
                    writer.write(piece.data)
                return operator.UploadArtifactReply(size_bytes=writer.finish())

    async def Submit(self, request: operator.SubmitRequest, context: Context) -> operator.SubmitReply:
        """Plan again, now bindingly, and accept the revision."""
        async with answering(context):
            submission = _submission(request)
            planned = self._deployments.plan(submission)
            if planned.errors:
                raise FoglineError(ErrorKind.UNPLACEABLE, "; ".join(each.message for each in planned.errors))
            if absent := sorted(submission.document.pipeline.keys() - submission.artifacts.keys()):
                sentence = f"the submit names no artifact for {', '.join(absent)}: upgrade the `coord` it came from"
                raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
            if missing := self._artifacts.missing(list(submission.artifacts.values())):
                raise FoglineError(ErrorKind.CONFLICT, f"{len(missing)} artifacts were not uploaded; submit again")
            number, unchanged = self._deployments.submit(submission, planned)
            return operator.SubmitReply(
                id=planned.id, revision=number, unchanged=unchanged, plan=translate.plan_reply(planned)
            )

    async def Watch(self, request: operator.WatchRequest, context: Context) -> AsyncIterator[operator.DeploymentStatus]:
        """The status now and at every change, until there is a verdict."""
        async with answering(context):
            id_ = self._resolve(request.id)
            last = None
            while True:
                current = self._status(id_, request.revision)
                if current != last:
                    yield current
                    last = current
                if current.settled:
                    return
                await self._deployments.changed(WATCH_S)

    async def Status(self, request: operator.StatusRequest, context: Context) -> operator.DeploymentStatus:
        """The status as last heard, or as the nodes say when asked just now."""
        async with answering(context):
            id_ = self._resolve(request.id)
            if request.fresh:
                await self._probe({copy.node for copy in self._deployments.get(id_).target})
            return self._status(id_)

    async def ListDeployments(
        self, request: operator.ListDeploymentsRequest, context: Context
    ) -> operator.ListDeploymentsReply:
        """Every deployment."""
        async with answering(context):
            statuses = [self._status(id_) for id_ in self._deployments.ids()]
            return operator.ListDeploymentsReply(deployments=statuses)

    async def Stop(self, request: operator.StopRequest, context: Context) -> operator.DeploymentStatus:
        """Begin to drain and stop; Watch follows."""
        async with answering(context):
            id_ = self._resolve(request.id)
            self._deployments.stop(id_)
            return self._status(id_)

    async def Delete(self, request: operator.DeleteRequest, context: Context) -> operator.DeleteReply:
        """Stop, end broker sessions, forget. Answers when done, or with what it waits for."""
        async with answering(context):
            id_ = self._resolve(request.id)
            self._deployments.stop(id_, release=True)
            while id_ in self._deployments.ids():
                deployment = self._deployments.get(id_)
                if settled(deployment):
                    raise FoglineError(ErrorKind.UNREACHABLE, f"deployment {id_} is stopped, but {deployment.reason}")
                await self._deployments.changed(WATCH_S)
            return operator.DeleteReply()

    async def Logs(self, request: operator.LogsRequest, context: Context) -> AsyncIterator[operator.LogsReply]:
        """The end of each segment's log, segment by segment."""
        async with answering(context):
            id_ = self._resolve(request.id)
            for copy, _ in segments_of(self._specs(id_), request.stage):
                asked = agent.NodeRequest(
                    deadline_s=LOGS_S,
                    logs=agent.Logs(assignment=copy.assignment, tail_bytes=request.tail_bytes),
                )
                async for reply in self._fleet.ask(copy.node, asked):
                    yield operator.LogsReply(segment=copy.segment, node=copy.node, data=reply.data)

    async def Tap(self, request: operator.TapRequest, context: Context) -> AsyncIterator[operator.TapReply]:
        """Records as they pass, sampled where they are written."""
        async with answering(context):
            copy, queue = find_tap(self._specs(self._resolve(request.id)), request.queue)
            tap = agent.Tap(assignment=copy.assignment, queue=queue, count=request.count)
            async for reply in self._fleet.ask(copy.node, agent.NodeRequest(tap=tap)):
                yield operator.TapReply(data=reply.data)

    async def Send(self, request_iterator: AsyncIterator[operator.SendRequest], context: Context) -> operator.SendReply:
        """Records into a queue, chunk by chunk, each confirmed by the broker before the next."""
        async with answering(context):
            messages = aiter(request_iterator)
            first = await anext(messages)
            copy, queue = first_queue(self._specs(self._resolve(first.id)), first.queue)
            async with self._fleet.line(copy.node) as line:

                async def pass_on(lines: bytes, *, end: bool = False) -> int:
                    publish = agent.Publish(assignment=copy.assignment, queue=queue, lines=lines, end=end)
                    await line.send(agent.NodeRequest(publish=publish))
                    return (await line.receive(PUBLISH_S)).confirmed

                await pass_on(first.lines)
                async for piece in messages:
                    await pass_on(piece.lines)
                confirmed = await pass_on(b"", end=True)
            return operator.SendReply(confirmed=confirmed)

    def _resolve(self, id_: str) -> str:
        return unambiguous(id_, self._deployments.ids(), "deployment")

    def _specs(self, id_: str) -> list[tuple[Copy, SegmentSpec]]:
        target = self._deployments.get(id_).target
        return [(copy, parse_spec(self._deployments.spec(copy))) for copy in target]

    def _status(self, id_: str, revision: int = 0) -> operator.DeploymentStatus:
        return status.deployment_status(self._deployments, self._fleet, id_, revision)

    async def _probe(self, nodes: set[str]) -> None:
        """Have the nodes observe now; one that is away or slow leaves what it said last."""
        for name in sorted(nodes):
            record = self._fleet.records.get(name)
            if record is None or record.session is None:
                continue
            request = agent.NodeRequest(deadline_s=PROBE_S, probe=agent.Probe())
            try:
                async for _ in self._fleet.ask(name, request):
                    continue
            except FoglineError as error:
                if error.kind not in {ErrorKind.DEADLINE, ErrorKind.UNREACHABLE}:
                    raise


def _submission(request: operator.PlanRequest | operator.SubmitRequest) -> Submission:
    try:
        raw = without_passwords(json.loads(request.document))
    except (ValueError, TypeError, AttributeError) as error:
        raise FoglineError(ErrorKind.INVALID_DOCUMENT, f"the document is not a JSON object: {error}") from error
    document, problems = parse(raw)
    if document is None:
        raise FoglineError(ErrorKind.INVALID_DOCUMENT, "; ".join(each.message for each in problems))
    incompatible = {(each.first, each.second): each.reason for each in request.incompatible}
    return Submission(document, json.dumps(raw).encode(), dict(request.artifacts), request.machine_id, incompatible)
