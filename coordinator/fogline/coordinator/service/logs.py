"""Logs of a deployment's segments: read once, or followed over whatever befalls nodes, processes and revisions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from fogline.coordinator.core.deployment import OVER, Copy, Phase
from fogline.coordinator.service.deployments import Deployments
from fogline.coordinator.service.desk import WATCH_S
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.merged import Merged
from fogline.coordinator.service.records import segments_of
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.terms import ErrorKind, FoglineError

READ_S = 20.0
RESUME_BYTES = 256 * 1024
"""How far back a reader looks for the place where it was interrupted."""
RESUME_S = 1.0
_MARK_BYTES = 4096
"""The end of what was handed on, by which the place is known again."""
_PASSING = {ErrorKind.UNREACHABLE, ErrorKind.NOT_FOUND}
"""A node that is away comes back; a copy that is not there yet will be."""
_OVER = OVER | {Phase.STOPPING}

Replies = AsyncGenerator[operator.LogsReply, None]


class LogReading:
    """One reader of the logs of one deployment, or of the segment that runs one of its stages."""

    def __init__(self, fleet: Fleet, deployments: Deployments, id_: str, request: operator.LogsRequest) -> None:
        self._fleet = fleet
        self._deployments = deployments
        self._id = id_
        self._request = request

    async def once(self) -> Replies:
        """What is there now, segment by segment; one that cannot be read hides no other."""
        for copy in self._copies():
            asked = agent.NodeRequest(deadline_s=READ_S, logs=logs_wanted(copy, self._request))
            try:
                async for reply in self._fleet.ask(copy.node, asked):
                    yield operator.LogsReply(segment=copy.label, node=copy.node, data=reply.data)
            except FoglineError as error:
                yield _unread(copy, error)

    async def followed(self) -> Replies:
        """What is there and what comes, of all segments at once, until the deployment ends."""
        merged: Merged[str, operator.LogsReply] = Merged()
        first = [copy.label for copy in self._copies()]
        async with merged:
            for segment in first:
                merged.add(segment, self._follow(segment))
            merged.add("", self._further(first))
            async for source, reply in merged:
                assert not isinstance(reply, FoglineError), "each source reports its own"
                if source:
                    yield reply
                else:
                    merged.add(reply.segment, self._follow(reply.segment))

    async def _further(self, known: Iterable[str]) -> Replies:
        """Segments that a later revision brings."""
        seen = set(known)
        while not self._over():
            await self._deployments.changed(WATCH_S)
            fresh = [] if self._over() else [copy for copy in self._copies() if copy.label not in seen]
            for copy in fresh:
                seen.add(copy.label)
                yield operator.LogsReply(segment=copy.label)

    async def _follow(self, segment: str) -> Replies:
        """One segment: over its node's absence, a move to another node, and until it ends."""
        follower = _Follower(self._fleet, self._request)
        while copy := self._copy(segment):
            async with aclosing(follower.read(copy)) as replies:
                async for reply in replies:
                    yield reply
            refusal = follower.refusal
            if refusal and (self._over() or refusal.kind not in _PASSING):
                yield _unread(copy, refusal)
                return
            if self._over():
                yield _notice(copy, f"{segment} has ended")
                return
            await self._deployments.changed(WATCH_S)

    def _copies(self) -> list[Copy]:
        """In the order of the flow. Raises FoglineError when no stage has the name that is asked for."""
        target = self._deployments.get(self._id).target
        specs = [(copy, self._deployments.parsed(copy)) for copy in target]
        return [copy for copy, _ in segments_of(specs, self._request.stage)]

    def _copy(self, segment: str) -> Copy | None:
        if self._id not in self._deployments.ids():
            return None
        target = self._deployments.get(self._id).target
        return next((copy for copy in target if copy.label == segment), None)

    def _over(self) -> bool:
        return self._id not in self._deployments.ids() or self._deployments.get(self._id).phase in _OVER


class _Follower:
    """Follows one segment from node to node, and knows the place where it was interrupted."""

    def __init__(self, fleet: Fleet, request: operator.LogsRequest) -> None:
        self._fleet = fleet
        self._request = request
        self._mark = b""
        self._node = ""
        self._away = False
        self.refusal: FoglineError | None = None
        """Why the last reading could not begin or go on."""

    async def read(self, copy: Copy) -> Replies:
        """Go on with the segment where it is now, as long as its node answers."""
        self.refusal = None
        if self._node not in {"", copy.node}:
            self._mark = b""
            yield _notice(copy, f"{copy.label} goes on on node {copy.node}")
        self._node = copy.node
        record = self._fleet.records.get(copy.node)
        away = record is None or record.session is None
        if away != self._away:
            self._away = away
            rest = "away; reading goes on when it is back" if away else "back"
            yield _notice(copy, f"node {copy.node} is {rest}")
        if away:
            return
        try:
            async for data in self._pieces(copy):
                self._mark = (self._mark + data)[-_MARK_BYTES:]
                yield operator.LogsReply(segment=copy.label, node=copy.node, data=data)
        except FoglineError as error:
            self.refusal = error

    async def _pieces(self, copy: Copy) -> AsyncGenerator[bytes, None]:
        """From the mark on, or from as far back as is read when it is not found there."""
        begin = logs_wanted(copy, self._request)
        if self._mark:
            begin = agent.Logs(assignment=copy.assignment, tail_bytes=RESUME_BYTES, follow=True)
        mark, held, last = self._mark, b"", False
        async with self._fleet.line(copy.node) as line:
            await line.send(agent.NodeRequest(logs=begin))
            while not last:
                try:
                    reply = await line.receive(RESUME_S if mark else None)
                    data, last = reply.data, reply.last
                except FoglineError as error:
                    if not mark or error.kind is not ErrorKind.DEADLINE:
                        raise
                    data, held, mark = held, b"", b""
                if mark:
                    held += data
                    _, found, behind = held.partition(mark)
                    if not (found or last or len(held) >= RESUME_BYTES):
                        continue
                    data, held, mark = behind if found else held, b"", b""
                if data:
                    yield data


def logs_wanted(copy: Copy, request: operator.LogsRequest) -> agent.Logs:
    """The same of one copy."""
    return agent.Logs(
        assignment=copy.assignment,
        tail_bytes=request.tail_bytes,
        tail_lines=request.tail_lines,
        since=request.since,
        follow=request.follow,
    )


def _notice(copy: Copy, text: str) -> operator.LogsReply:
    return operator.LogsReply(segment=copy.label, node=copy.node, notice=text)


def _unread(copy: Copy, error: FoglineError) -> operator.LogsReply:
    if error.kind is ErrorKind.NOT_FOUND:  # in the words of people, who know no assignments
        sentence = "no log is here: a stopped segment takes its log along; `coord events` tells what happened"
        error = FoglineError(error.kind, sentence)
    return operator.LogsReply(segment=copy.label, node=copy.node, error_kind=error.kind.value, error=error.sentence)
