"""Operator calls about what was and what would be: revisions, differences, events; and about running it again."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fogline.coordinator.core.deployment import Outcome
from fogline.coordinator.core.history import became
from fogline.coordinator.service import translate
from fogline.coordinator.service.desk import WATCH_S, Context, Desk, submission_of
from fogline.coordinator.service.records import unambiguous
from fogline.coordinator.store.journal import StoredEvent, Wanted
from fogline.coordinator.store.sql import Revision
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import answering


class HistoryCalls(Desk):
    """Translate, call, translate back."""

    async def GetRevision(self, request: operator.GetRevisionRequest, context: Context) -> operator.Revision:
        """One revision with its document."""
        async with answering(context):
            id_ = self._resolve(request.id)
            number = request.revision or self._deployments.get(id_).revision
            return self._revision(self._store.revision(id_, number), with_document=True)

    async def History(self, request: operator.HistoryRequest, context: Context) -> operator.HistoryReply:
        """Every revision, oldest first."""
        async with answering(context):
            revisions = self._store.revisions(self._resolve(request.id))
            return operator.HistoryReply(revisions=[self._revision(each) for each in revisions])

    async def Diff(self, request: operator.SubmitRequest, context: Context) -> operator.DiffReply:
        """What a submit would change; nothing is changed, nothing need be uploaded."""
        async with answering(context):
            submission = submission_of(request)
            planned = self._placed(submission)
            id_ = planned.id
            known = id_ in self._deployments.ids()
            return operator.DiffReply(
                id=id_,
                revision=self._deployments.get(id_).revision if known else 0,
                document=self._deployments.document(id_) if known else b"",
                segments=[
                    operator.SegmentChange(
                        segment=each.segment, change=each.change, node=each.node, former_node=each.former_node
                    )
                    for each in self._deployments.compare(submission, planned)
                ],
                plan=translate.plan_reply(planned),
            )

    async def Start(self, request: operator.StartRequest, context: Context) -> operator.DeploymentStatus:
        """Begin to run the last revision again; Watch follows. Of what runs already nothing changes."""
        async with answering(context):
            id_ = self._resolve(request.id)
            self._deployments.start(id_)
            return await self._ordered(id_)

    async def Restart(self, request: operator.RestartRequest, context: Context) -> operator.DeploymentStatus:
        """Begin to replace the processes of what runs; Watch follows."""
        async with answering(context):
            id_ = self._resolve(request.id)
            stages = sorted(stage.name for _, spec in self._specs(id_) for stage in spec.stages)
            stage = unambiguous(request.stage, stages, "stage") if request.stage else ""
            self._deployments.restart(id_, stage)
            return await self._ordered(id_)

    async def Events(self, request: operator.EventsRequest, context: Context) -> AsyncIterator[operator.Event]:
        """What happened, oldest first, and with `follow` what happens from now on."""
        async with answering(context):
            known = sorted({*self._deployments.ids(), *self._store.told_of()})
            id_ = unambiguous(request.id, known, "deployment") if request.id else ""
            found = self._store.events(Wanted(id_, request.since, limit=request.limit))
            last = found[-1].number if found else 0
            while True:
                for each in found:
                    yield _event(each)
                    last = each.number
                if not request.follow:
                    return
                await self._deployments.changed(WATCH_S)
                found = self._store.events(Wanted(id_, request.since, after=last))

    def _revision(self, revision: Revision, *, with_document: bool = False) -> operator.Revision:
        deployment = self._deployments.get(revision.deployment)
        outcome = None
        if revision.succeeded is not None:
            outcome = Outcome(revision.number, revision.succeeded, revision.verdict)
        shown = self._status(deployment.id).state
        return operator.Revision(
            id=revision.deployment,
            number=revision.number,
            document=revision.document if with_document else b"",
            created_at=revision.created_at,
            state=became(outcome, revision.number, deployment, shown),
            verdict=revision.verdict,
            in_charge=revision.number == deployment.revision,
        )


def _event(stored: StoredEvent) -> operator.Event:
    event = stored.event
    return operator.Event(
        number=stored.number,
        at=stored.at,
        deployment=event.deployment,
        revision=event.revision,
        node=event.node,
        segment=event.segment,
        kind=event.kind.value,
        text=event.text,
    )
