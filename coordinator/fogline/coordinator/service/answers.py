"""Operator calls that nodes answer: logs, taps, records into a queue, dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from fogline.coordinator.service.desk import Context, Desk
from fogline.coordinator.service.logs import LogReading
from fogline.coordinator.service.merged import Merged
from fogline.coordinator.service.records import endpoint, find_taps, first_queue, letters_by_node
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import answering
from fogline.wire.terms import ErrorKind, FoglineError

PUBLISH_S = 60.0
PREDICT_S = 75.0
"""A little more than the node waits for its segment."""
LETTERS_S = 30.0
"""From one piece of the answer to the next: all of it may be hundreds of megabytes."""
ACTIONS = ("list", "show", "replay", "discard")


class AnswerCalls(Desk):
    """Translate, ask, translate back."""

    async def Logs(self, request: operator.LogsRequest, context: Context) -> AsyncIterator[operator.LogsReply]:
        """What the segments wrote, segment by segment; with `follow` of all at once, and what they write later."""
        async with answering(context):
            reading = LogReading(self._fleet, self._deployments, self._resolve(request.id), request)
            async with aclosing(reading.followed() if request.follow else reading.once()) as replies:
                async for reply in replies:
                    yield reply

    async def Tap(self, request: operator.TapRequest, context: Context) -> AsyncIterator[operator.TapReply]:
        """Records as they pass, sampled where they are written."""
        async with answering(context):
            copies, queue = find_taps(self._specs(self._resolve(request.id)), request.queue)
            left, merged = request.count, Merged[str, agent.NodeReply]()
            async with merged:
                for copy in copies:
                    tap = agent.Tap(assignment=copy.assignment, queue=queue, count=request.count)
                    merged.add(copy.assignment, self._fleet.ask(copy.node, agent.NodeRequest(tap=tap)))
                async for _, answer in merged:
                    if isinstance(answer, FoglineError):
                        raise answer
                    lines = answer.data.splitlines(keepends=True)
                    yield operator.TapReply(data=b"".join(lines[:left] if request.count else lines))
                    left -= len(lines)
                    if request.count and left <= 0:
                        return

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

    async def Predict(
        self, request_iterator: AsyncIterator[operator.PredictRequest], context: Context
    ) -> AsyncIterator[operator.PredictReply]:
        """A request to the pipeline's endpoint, made by its node; the answer as it is, whatever its HTTP status."""
        async with answering(context):
            messages = aiter(request_iterator)
            first = await anext(messages)
            id_ = self._resolve(first.id)
            copy = endpoint(self._specs(id_), id_)
            async with self._fleet.line(copy.node) as line:

                async def pass_on(body: bytes, *, more: bool) -> agent.NodeReply:
                    predict = agent.Predict(assignment=copy.assignment, body=body, more=more)
                    await line.send(agent.NodeRequest(deadline_s=PREDICT_S, predict=predict))
                    return await line.receive(PREDICT_S)

                held = first.body
                async for piece in messages:
                    await pass_on(held, more=True)
                    held = piece.body
                reply = await pass_on(held, more=False)
                yield operator.PredictReply(status=reply.http_status, body=reply.data)
                while not reply.last:
                    reply = await line.receive(PREDICT_S)
                    if reply.data:
                        yield operator.PredictReply(body=reply.data)

    async def DeadLetters(
        self, request: operator.DeadLettersRequest, context: Context
    ) -> AsyncIterator[operator.DeadLettersReply]:
        """What each node that runs or ran the deployment answers; one that cannot hides no other."""
        async with answering(context):
            id_ = self._resolve(request.id)
            if request.action not in ACTIONS:
                sentence = f"{request.action!r} is nothing to do with dead letters; there is {', '.join(ACTIONS)}"
                raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
            merged: Merged[str, agent.NodeReply] = Merged()
            async with merged:
                for node, numbers in self._lettered(id_, list(request.letters)).items():
                    wanted = agent.DeadLetters(
                        pipeline=id_, action=request.action, letters=numbers, limit=request.limit
                    )
                    merged.add(node, self._fleet.ask(node, agent.NodeRequest(dead_letters=wanted), LETTERS_S))
                async for node, answer in merged:
                    if isinstance(answer, FoglineError):
                        yield operator.DeadLettersReply(node=node, error=answer.sentence, error_kind=answer.kind.value)
                    elif answer.data:
                        yield operator.DeadLettersReply(node=node, data=answer.data)

    def _lettered(self, id_: str, letters: list[str]) -> dict[str, list[int]]:
        """Whom to ask for which numbers; without letters every node, for all of its."""
        hosts = self._store.hosts(id_)
        if not letters:
            return {node: [] for node in hosts}
        named = letters_by_node(letters)
        for node in named:
            if node not in hosts:
                sentence = f"{id_} never ran on a node {node!r}; it runs or ran on {', '.join(hosts)}"
                raise FoglineError(ErrorKind.NOT_FOUND, sentence)
        return named
