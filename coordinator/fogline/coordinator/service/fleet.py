"""The nodes as they are now: who is connected, what they last reported, and what is asked of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fogline.coordinator.core.events import Event, Kind
from fogline.coordinator.core.fleet import DISCONNECTED_AFTER_S, Node, NodeState, node_state
from fogline.coordinator.service import translate
from fogline.coordinator.store.sql import Store
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import common_pb2 as common
from fogline.wire.errors import refusal
from fogline.wire.terms import ErrorKind, FoglineError

REPLIES_HELD = 64
"""Replies of one request that wait for a slow asker before the node's stream is held up."""


@dataclass
class NodeRecord:
    """One node: facts, what it last observed, and its open conversation if there is one."""

    facts: common.NodeFacts
    release: str
    heard_at: float
    """Monotonic seconds; meaningless for a node not heard of since this coordinator started."""
    generation: int = 0
    """Of the desired state that was last changed for it."""
    session: object | None = None
    """Token of the open Session stream; a newer one takes its place."""
    observed: dict[tuple[str, str], common.CopyObserved] = field(default_factory=dict)
    observed_generation: int = -1
    """Of the desired state the observation answers to; -1 until the first one of this session."""
    told_away: bool = False
    """Its absence was told, so its return will be."""
    behind: bool = False
    """It has seen later numbers than the store knew: the store forgot something."""
    importing: bool = False
    """It is being asked what it holds; until that is known it is told nothing."""
    push: asyncio.Event = field(default_factory=asyncio.Event)
    """The Session stream has something to send."""
    open_requests: bool = False
    requests_stream: object | None = None
    outgoing: asyncio.Queue[agent.NodeRequest] = field(default_factory=lambda: asyncio.Queue(REPLIES_HELD))
    pending: dict[str, asyncio.Queue[agent.NodeReply]] = field(default_factory=dict)

    @property
    def state(self) -> NodeState:
        """The node's lease."""
        return node_state(connected=self.session is not None, silent_s=self.silent_s)

    @property
    def silent_s(self) -> float:
        """Seconds since it was last heard."""
        return time.monotonic() - self.heard_at


class Fleet:
    """Every known node by name. Lives in the event loop; no locks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids = itertools.count(1)
        self._closing = False
        self._opened_at = time.monotonic()
        self.on_change: Callable[[str], None] = lambda _: None
        """Called with a node's name whenever something about it changed, other than its counters."""
        self.records: dict[str, NodeRecord] = {}
        for stored in store.nodes():
            age_s = max(0.0, time.time() - stored.seen_at)
            facts = common.NodeFacts.FromString(stored.facts)
            heard = time.monotonic() - age_s
            self.records[stored.name] = NodeRecord(facts, stored.release, heard, stored.generation)

    def nodes(self) -> list[Node]:
        """The fleet as placement sees it."""
        return [translate.node(record.facts, record.state) for record in self.records.values()]

    def join(self, hello: agent.Hello) -> NodeRecord:
        """A node's new session. Raises FoglineError when another machine holds that name right now."""
        name = hello.facts.name
        known = self.records.get(name)
        if known and known.session and known.facts.machine_id != hello.facts.machine_id:
            where = f"another machine ({known.facts.hostname})"
            sentence = f"a node named {name} is connected from {where}; choose another --name"
            raise FoglineError(ErrorKind.CONFLICT, sentence)
        event = None
        if known is None or known.told_away:
            event = Event(Kind.NODE, "connected again" if known else "joined", node=name)
        self._store.save_node(name, hello.facts.SerializeToString(), hello.release, event)
        record = known or NodeRecord(hello.facts, hello.release, 0.0)
        record.told_away = False
        self.records[name] = record
        record.facts, record.release, record.heard_at = hello.facts, hello.release, time.monotonic()
        record.session, record.observed_generation = object(), -1
        record.open_requests = not record.outgoing.empty()
        record.push.set()
        self.on_change(name)
        return record

    def leave(self, record: NodeRecord, session: object) -> None:
        """The Session stream ended; nothing happens if a newer one took its place already."""
        if record.session is session:
            record.session = None
            record.told_away = not self._closing
            away = Event(Kind.NODE, "away: its session ended", node=record.facts.name) if record.told_away else None
            self._store.save_node(record.facts.name, record.facts.SerializeToString(), record.release, away)
            self._fail_pending(record)
            self.on_change(record.facts.name)

    def close(self) -> None:
        """The coordinator stops: what ends from now on tells nothing about the nodes."""
        self._closing = True

    def tell_absent(self) -> None:
        """Tell of nodes that were connected to a former coordinator and have not come to this one."""
        if time.monotonic() - self._opened_at < DISCONNECTED_AFTER_S:
            return
        text = "away: not heard since the coordinator started"
        absent = [each for each in self.records.values() if each.session is None and not each.told_away]
        for record in absent:
            record.told_away = True
        if absent:
            self._store.tell([Event(Kind.NODE, text, node=record.facts.name) for record in absent])

    def heard(self, record: NodeRecord, observation: agent.Observation | None = None) -> None:
        """A heartbeat, or a full observation of the node's copies."""
        record.heard_at = time.monotonic()
        if observation is not None:
            known = _lives(record.observed), record.observed_generation
            record.observed = {(each.assignment, each.spec_digest): each for each in observation.copies}
            record.observed_generation = observation.generation
            if known != (_lives(record.observed), record.observed_generation):
                self.on_change(record.facts.name)

    def push_to(self, name: str) -> None:
        """The desired state of this node changed."""
        if name in self.records:
            self.records[name].push.set()

    async def ask(
        self, name: str, request: agent.NodeRequest, silence_s: float | None = None
    ) -> AsyncGenerator[agent.NodeReply, None]:
        """One node's replies to one request, until the last. Raises FoglineError on refusal, silence or loss.

        `silence_s`: how long the next reply may take, where the whole answer may be long; else the deadline.
        """
        async with self.line(name) as line:
            await line.send(request)
            while True:
                reply = await line.receive(silence_s or request.deadline_s or None)
                yield reply
                if reply.last:
                    return

    @asynccontextmanager
    async def line(self, name: str) -> AsyncIterator[RequestLine]:
        """A request id on one node, for requests that come in several pieces; cancelled when left early."""
        record = self.records.get(name)
        if record is None or record.session is None:
            raise FoglineError(ErrorKind.UNREACHABLE, f"node {name} is not connected right now")
        line = RequestLine(self, record, str(next(self._ids)))
        record.pending[line.id] = line.replies
        try:
            yield line
        finally:
            del record.pending[line.id]
            if not line.finished and record.session is not None:
                await self.post(record, agent.NodeRequest(id=line.id, cancel=True))

    async def post(self, record: NodeRecord, request: agent.NodeRequest) -> None:
        """Put a request on its way, asking the agent to open the second stream if it is closed."""
        await record.outgoing.put(request)
        if record.requests_stream is None:
            record.open_requests = True
            record.push.set()

    def replied(self, record: NodeRecord, reply: agent.NodeReply) -> asyncio.Queue[agent.NodeReply] | None:
        """Where a reply belongs; None when nobody waits for it any more."""
        record.heard_at = time.monotonic()
        if reply.HasField("observation"):
            self.heard(record, reply.observation)
        return record.pending.get(reply.id)

    def requests_closed(self, record: NodeRecord, stream: object) -> None:
        """The second stream ended: what still waits on it will not be answered."""
        if record.requests_stream is stream:
            record.requests_stream = None
            self._fail_pending(record)
            if not record.outgoing.empty():
                record.open_requests = True
                record.push.set()

    def _fail_pending(self, record: NodeRecord) -> None:
        lost = f"node {record.facts.name} went away while answering"
        for id_, replies in record.pending.items():
            while replies.full():
                replies.get_nowait()
            replies.put_nowait(agent.NodeReply(id=id_, last=True, error_kind=ErrorKind.UNREACHABLE, error=lost))


def _lives(observed: Mapping[tuple[str, str], common.CopyObserved]) -> dict[tuple[str, str], tuple[object, ...]]:
    """Everything about copies but what they counted: that comes with every heartbeat and moves nothing."""
    return {
        key: (copy.state, copy.reason, copy.restarts, copy.incarnation, copy.progress) for key, copy in observed.items()
    }


class RequestLine:
    """One request id in conversation with one node."""

    def __init__(self, fleet: Fleet, record: NodeRecord, id_: str) -> None:
        self.id = id_
        self.finished = False
        self.replies: asyncio.Queue[agent.NodeReply] = asyncio.Queue(REPLIES_HELD)
        self._fleet = fleet
        self._record = record

    async def send(self, request: agent.NodeRequest) -> None:
        """Send the request, or a further piece of it, under this id."""
        request.id = self.id
        await self._fleet.post(self._record, request)

    async def receive(self, wait_s: float | None) -> agent.NodeReply:
        """The next reply. Raises FoglineError when the node refuses, is lost, or is silent until the deadline."""
        try:
            async with asyncio.timeout(wait_s):
                reply = await self.replies.get()
        except TimeoutError:
            sentence = f"node {self._record.facts.name} did not answer within {wait_s:g} s"
            raise FoglineError(ErrorKind.DEADLINE, sentence) from None
        self.finished = reply.last
        if reply.error_kind:
            raise refusal(reply.error_kind, reply.error)
        return reply
