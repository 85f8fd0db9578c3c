"""The gRPC edge towards `coord`: documents in, plans and statuses out; the other groups of calls are its bases."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fogline.coordinator.service import translate
from fogline.coordinator.service.answers import AnswerCalls
from fogline.coordinator.service.deployments import settled
from fogline.coordinator.service.desk import WATCH_S, Context, submission_of
from fogline.coordinator.service.history import HistoryCalls
from fogline.coordinator.service.locks import LockCalls
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire import version
from fogline.wire.channel import CHUNK_BYTES
from fogline.wire.errors import answering
from fogline.wire.terms import ErrorKind, FoglineError

PROBE_S = 2.0


class OperatorService(HistoryCalls, AnswerCalls, LockCalls):
    """Translate, call, translate back."""

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
            return translate.plan_reply(self._deployments.plan(submission_of(request)))

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

    async def DownloadArtifact(
        self, request: operator.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[operator.DownloadArtifactReply]:
        """One blob of the store."""
        async with answering(context):
            for data in self._artifacts.read(request.digest, 0, CHUNK_BYTES):
                yield operator.DownloadArtifactReply(data=data)

    async def Submit(self, request: operator.SubmitRequest, context: Context) -> operator.SubmitReply:
        """Plan again, now bindingly, and accept the revision."""
        async with answering(context):
            submission = submission_of(request)
            planned = self._placed(submission)
            locks = submission.resolution.locks
            needed = [*submission.artifacts.values(), *(lock.digest for lock in locks)]
            needed += [lock.context for lock in locks if lock.context and not lock.image]
            if missing := self._artifacts.missing(needed):
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
            return await self._ordered(id_)

    async def Delete(self, request: operator.DeleteRequest, context: Context) -> operator.DeleteReply:
        """Stop, end broker sessions, forget, remove dead letters. Answers when done, or with what it waits for."""
        async with answering(context):
            id_ = self._resolve(request.id)
            self._deployments.stop(id_, release=True)
            while id_ in self._deployments.ids():
                deployment = self._deployments.get(id_)
                if not deployment.release:
                    raise FoglineError(ErrorKind.CONFLICT, f"deployment {id_} was submitted again before it was gone")
                if settled(deployment):
                    raise FoglineError(ErrorKind.UNREACHABLE, f"deployment {id_} is stopped, but {deployment.reason}")
                await self._deployments.changed(WATCH_S)
            return operator.DeleteReply(letters_left_on=await self.purging.attempt(id_))

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
