"""Everything that is asked of the node, on a stream of its own that is opened on demand.

One task per request id. A refusal goes back as `error_kind` and `error` of the last reply; a cancel ends
the task without a word. The stream is closed when nothing was asked for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from fogline.agent import translate
from fogline.agent.answers import in_chunks, log_pieces, tapped
from fogline.agent.host.environments import Environments
from fogline.agent.host.stagelog import From
from fogline.agent.letters import DeadLetters, LetterRequest
from fogline.agent.predicting import predict
from fogline.agent.publishing import publisher
from fogline.agent.supervisor import Supervisor
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.wire.terms import ErrorKind, FoglineError

if TYPE_CHECKING:
    from fogline.v1.agent_coordinator_pb2_grpc import AgentCoordinatorAsyncStub

log = logging.getLogger(__name__)

NODE_KEY = "fogline-node"
IDLE_S = 30.0
FAREWELL_S = 5.0
_PIECES_HELD = 16
_REPLIES_HELD = 16
"""Before whoever answers is held up."""
_HOLDINGS_BYTES = _ANSWER_BYTES = 1024 * 1024
_PIECE_S = 60.0
"""How long the broker may take to confirm one piece, where the request names no deadline."""

Call = Any  # grpc.aio.StreamStreamCall[NodeReply, NodeRequest]; generic in its stubs only


@dataclass
class _Asked:
    """One request id: the request, and its further pieces as they come."""

    request: agent.NodeRequest
    pieces: asyncio.Queue[agent.NodeRequest] = field(default_factory=lambda: asyncio.Queue(_PIECES_HELD))
    task: asyncio.Task[None] | None = None


Replies = AsyncGenerator[agent.NodeReply, None]


class Requests:
    """What can be asked of this node, and the stream it is asked on."""

    def __init__(
        self,
        node: str,
        supervisor: Supervisor,
        letters: DeadLetters,
        environments: Environments,
        idle_s: float = IDLE_S,
    ) -> None:
        self._node = node
        self._supervisor = supervisor
        self._letters = letters
        self._environments = environments
        self._idle_s = idle_s
        self._serving: asyncio.Task[None] | None = None
        self._stream: _RequestStream | None = None
        self._wanted_again = False
        self._bodies: dict[str, Callable[[_Asked], Replies]] = {
            "probe": self._probe,
            "logs": self._logs,
            "tap": self._tap,
            "publish": self._publish,
            "holdings": self._holdings,
            "dead_letters": self._dead_letters,
            "predict": self._predict,
        }

    def open(self, stub: AgentCoordinatorAsyncStub) -> None:
        """Open the stream over this stub, unless it is open; one that is just being closed is opened again."""
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve(stub))
        elif self._stream and self._stream.closing:
            self._wanted_again = True

    async def close(self) -> None:
        """End the stream and everything that is being answered."""
        if self._serving:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    async def _serve(self, stub: AgentCoordinatorAsyncStub) -> None:
        self._wanted_again = True
        while self._wanted_again:
            self._wanted_again = False
            await self._serve_once(stub)

    async def _serve_once(self, stub: AgentCoordinatorAsyncStub) -> None:
        call = stub.Requests(metadata=((NODE_KEY, self._node),))
        stream = self._stream = _RequestStream(call, self._answer)
        log.info("requests: stream opened")
        try:
            await stream.run(self._idle_s)
        except grpc.aio.AioRpcError as error:
            log.warning("requests: %s %s", error.code().name, error.details())
        finally:
            await stream.close()
            call.cancel()
            log.info("requests: stream closed")

    async def _answer(self, asked: _Asked) -> Replies:
        body = str(asked.request.WhichOneof("body"))
        if body not in self._bodies:
            raise FoglineError(
                ErrorKind.VERSION_MISMATCH, f"node {self._node} does not know this request: upgrade its fogline"
            )
        async with aclosing(self._bodies[body](asked)) as replies:
            async for reply in replies:
                yield reply

    async def _probe(self, asked: _Asked) -> Replies:
        seen = await self._supervisor.fresh_observation()
        yield agent.NodeReply(observation=translate.observation(seen), last=True)

    async def _holdings(self, asked: _Asked) -> Replies:
        """In several replies where one would be too large; each names the numbers, and a part of the wishes."""
        parts = translate.holdings(self._supervisor.holdings(), _HOLDINGS_BYTES)
        for index, part in enumerate(parts, start=1):
            yield agent.NodeReply(held=part, last=index == len(parts))

    async def _logs(self, asked: _Asked) -> Replies:
        wanted = asked.request.logs
        begin = From(wanted.since, wanted.tail_lines, wanted.tail_bytes)
        find = partial(self._supervisor.find, wanted.assignment)
        async with aclosing(log_pieces(find, begin, follow=wanted.follow)) as pieces:
            async for piece in pieces:
                yield agent.NodeReply(data=piece)

    async def _dead_letters(self, asked: _Asked) -> Replies:
        wanted = asked.request.dead_letters
        request = LetterRequest(wanted.pipeline, wanted.action, tuple(wanted.letters), wanted.limit)
        async with aclosing(self._letters.answer(request)) as lines, aclosing(in_chunks(lines)) as chunks:
            async for chunk in chunks:
                yield agent.NodeReply(data=chunk)

    async def _tap(self, asked: _Asked) -> Replies:
        wanted = asked.request.tap
        copy = self._supervisor.find(wanted.assignment)
        async with aclosing(tapped(copy, wanted.queue, wanted.count)) as batches:
            async for lines in batches:
                yield agent.NodeReply(data=lines)

    async def _predict(self, asked: _Asked) -> Replies:
        wanted, body = asked.request.predict, [asked.request.predict.body]
        copy = self._supervisor.find(wanted.assignment)
        while wanted.more:
            yield agent.NodeReply()
            wanted = (await asked.pieces.get()).predict
            body.append(wanted.body)
        status, answer = await predict(copy, b"".join(body))
        pieces = [answer[begin : begin + _ANSWER_BYTES] for begin in range(0, len(answer), _ANSWER_BYTES)]
        yield agent.NodeReply(http_status=status, data=pieces[0] if pieces else b"")
        for piece in pieces[1:]:
            yield agent.NodeReply(data=piece)

    async def _publish(self, asked: _Asked) -> Replies:
        wanted = asked.request.publish
        limit_s = asked.request.deadline_s or _PIECE_S
        copy = self._supervisor.find(wanted.assignment)
        async with publisher(copy, wanted.queue, self._environments) as publishing:
            while True:
                async with asyncio.timeout(limit_s):
                    confirmed = await publishing.confirm(wanted.lines)
                    if wanted.end:
                        await publishing.finish()
                yield agent.NodeReply(confirmed=confirmed, last=wanted.end)
                if wanted.end:
                    return
                wanted = (await asked.pieces.get()).publish  # a live source may be silent for long


class _RequestStream:
    """The call: requests in, told apart by id; replies out, numbered per id."""

    def __init__(self, call: Call, answer: Callable[[_Asked], Replies]) -> None:
        self._call = call
        self._answer = answer
        self._open: dict[str, _Asked] = {}
        self._outgoing: asyncio.Queue[agent.NodeReply] = asyncio.Queue(_REPLIES_HELD)
        self._heard_at_s = _now_s()
        self.closing = False
        """Nothing more is taken: whoever asks now needs another stream."""

    async def run(self, idle_s: float) -> None:
        """Serve until the coordinator ends the stream, or nothing was asked for `idle_s`."""
        reading, writing = asyncio.create_task(self._read()), asyncio.create_task(self._write())
        try:
            while not reading.done():
                left_s = self._heard_at_s + idle_s - _now_s()
                if left_s <= 0 and not self._open and self._outgoing.empty():
                    self.closing = True
                    await self._call.done_writing()
                    await asyncio.wait({reading}, timeout=FAREWELL_S)
                    return
                await asyncio.wait({reading}, timeout=max(left_s, idle_s / 10))
            await reading
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def close(self) -> None:
        """End everything that is being answered."""
        self.closing = True
        tasks = [asked.task for asked in self._open.values() if asked.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while isinstance(request := await self._call.read(), agent.NodeRequest):
            self._heard_at_s = _now_s()
            self._take(request)
        self.closing = True

    async def _write(self) -> None:
        """The only one to write: whoever is cancelled in the middle of a write takes the call with it."""
        while True:
            await self._call.write(await self._outgoing.get())

    def _take(self, request: agent.NodeRequest) -> None:
        known = self._open.get(request.id)
        if request.cancel:
            if known and known.task:
                known.task.cancel()
        elif known is None:
            asked = self._open[request.id] = _Asked(request)
            asked.task = asyncio.create_task(self._respond(asked))
        elif known.pieces.full():  # each piece waits for its reply: this peer keeps to no such order
            log.warning("requests: %s sends pieces faster than they are answered, dropped", request.id)
        else:
            known.pieces.put_nowait(request)

    async def _respond(self, asked: _Asked) -> None:
        numbered = _Numbered(asked.request.id, self._outgoing)
        try:
            await self._reply_all(asked, numbered)
        except FoglineError as error:
            await numbered.refuse(error.kind, error.sentence)
        except TimeoutError:
            await numbered.refuse(ErrorKind.DEADLINE, "the node could not answer within the deadline")
        except Exception:
            log.exception("requests: %s went wrong", asked.request.id)
            await numbered.refuse(ErrorKind.INTERNAL, "the agent failed unexpectedly; its log has the details")
        finally:
            self._heard_at_s = _now_s()
            del self._open[asked.request.id]

    async def _reply_all(self, asked: _Asked, numbered: _Numbered) -> None:
        request = asked.request
        in_pieces = request.HasField("publish")  # then the deadline is each piece's own
        try:
            async with asyncio.timeout(None if in_pieces else request.deadline_s or None):
                async with aclosing(self._answer(asked)) as replies:
                    async for reply in replies:
                        await numbered.send(reply)
        except TimeoutError:
            watching = request.HasField("tap") or request.logs.follow
            if not watching:  # that simply ends then
                raise
        if not numbered.ended:
            await numbered.send(agent.NodeReply(last=True))


class _Numbered:
    """The replies to one id."""

    def __init__(self, id_: str, outgoing: asyncio.Queue[agent.NodeReply]) -> None:
        self._id = id_
        self._outgoing = outgoing
        self._seq = 0
        self.ended = False

    async def send(self, reply: agent.NodeReply) -> None:
        reply.id, reply.seq = self._id, self._seq
        self._seq += 1
        self.ended = reply.last
        await self._outgoing.put(reply)

    async def refuse(self, kind: ErrorKind, sentence: str) -> None:
        await self.send(agent.NodeReply(last=True, error_kind=kind.value, error=sentence))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
