"""The reading end: messages of acknowledged links, and frames of foreign peers.

A writer of Fogline has at most the window under way and is told what is acknowledged, so what is not comes again: on
its next connection, also to our successor. A foreign peer is only slowed down: while nobody takes what it sent, its
socket is not read. What it sent and we have not processed when this process ends is lost.
"""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Sequence

from fogline.runtimes.connectors.base import Source
from fogline.runtimes.connectors.websocket_connection import Connection
from fogline.runtimes.connectors.websocket_frames import (
    CREDIT_BYTES,
    FRAME_LIMIT_BYTES,
    Bye,
    Data,
    Hello,
    Malformed,
    ack,
    parse,
    resume,
)
from fogline.runtimes.connectors.websocket_peers import Listener, Reach
from fogline.runtimes.errors import NotConnected, Superseded
from fogline.runtimes.message import Message, content_id, just_read
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

log = logging.getLogger("fogline.websocket")

REMEMBERED_LINKS = 256
"""Of which we know how far they are acknowledged: only what a lost ACK would bring again depends on it."""
Epoch = tuple[str, str]
"""Link and epoch."""


class _Writer:
    """A connection that brings messages."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        """Of the connection; never used again."""
        self.hello: Hello | None = None
        """Of a link that has greeted."""
        self.next = 0
        """Number of the message that must come; 0: none may."""
        self.through = 0
        self.unacknowledged_bytes = 0

    @property
    def epoch(self) -> Epoch | None:
        return self.hello and (self.hello.link, self.hello.epoch)


class WebSocketSource(Source):
    failure: Superseded | None = None

    def __init__(self, endpoint: EndpointSpec, poller: Poller, window: int, reach: Reach) -> None:
        self.endpoint = endpoint
        self.peers = reach(self)
        self.listens = isinstance(self.peers, Listener)
        self._poller = poller
        self._window = window
        self._topic = str(endpoint.options["topic"])
        self._arrived: collections.deque[Message] = collections.deque()
        self._arrived_bytes = 0
        self._writers: dict[int, _Writer] = {}
        self._numbers: dict[Connection, int] = {}
        self._last_number = 0
        self._known: collections.OrderedDict[Epoch, int] = collections.OrderedDict()
        self._bound = self._stopped = self._held = False

    @property
    def connected(self) -> bool:
        return self.peers.up and self._bound

    @property
    def error(self) -> str:
        return self.peers.error

    def open(self) -> None:
        self.peers.open()

    def close(self) -> None:
        self.peers.close()

    def bind(self) -> None:
        with self._poller.lock:
            self._bound = True
            if not self.peers.up:
                raise NotConnected(self.peers.error or f"{self.peers.place}: not connected")
            for writer in list(self._writers.values()):  # one may be lost meanwhile
                self._let_in(writer)

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        arrived = self._arrived
        if not arrived:
            self._poller.wait(timeout_s)
        with self._poller.lock:
            messages = [arrived.popleft() for _ in range(min(max_messages, len(arrived)))]
            self._arrived_bytes -= sum(len(message.payload) for message in messages)
            if self._held and len(arrived) < self._window and self._arrived_bytes < CREDIT_BYTES:
                self._held = False
                self._slow_down()
        return messages

    def ack(self, messages: Sequence[Message]) -> None:
        with self._poller.lock:
            touched: dict[int, _Writer] = {}
            for message in messages:
                writer = self._writers.get(message.connection)
                if writer is not None and message.handle is not None:
                    writer.through = message.handle
                    writer.unacknowledged_bytes -= len(message.payload)
                    touched[writer.number] = writer
            for writer in touched.values():
                self._remember(writer)
                writer.connection.send(ack(writer.through, self._window), text=True)
                writer.connection.flush()

    def stop_intake(self) -> None:
        with self._poller.lock:
            self._stopped = True
            foreign = [message for message in self._arrived if message.handle is None]
            if foreign:
                log.warning("queue %s: %d messages of foreign peers were not taken any more", self._topic, len(foreign))
            self._arrived.clear()
            self._arrived_bytes = 0
            self._slow_down()

    # From the connections -------------------------------------------------------------------------

    def on_open(self, connection: Connection) -> None:
        self._last_number += 1
        writer = _Writer(connection, self._last_number)
        self._numbers[connection] = writer.number
        self._writers[writer.number] = writer
        if not connection.link:
            self._slow_down()

    def on_message(self, connection: Connection, payload: bytes, text: bool) -> None:
        writer = self._writers[self._numbers[connection]]
        if not connection.link:
            ident, now = self._foreign_id(payload), time.monotonic()
            self._arrive(Message(payload, ident, writer.number, False, None, now, just_read()))
            return
        try:
            self._follow(writer, parse(payload, text=text))
        except Malformed as error:
            connection.fail(str(error))

    def on_written(self, connection: Connection) -> None: ...

    def on_lost(self, connection: Connection) -> None:
        """What a link brought and nobody took comes again; a foreign peer's would not."""
        writer = self._writers.pop(self._numbers.pop(connection))
        if connection.link:
            kept = [message for message in self._arrived if message.connection != writer.number]
            self._arrived.clear()
            self._arrived.extend(kept)
            self._arrived_bytes = sum(len(message.payload) for message in kept)

    # The link -------------------------------------------------------------------------------------

    def _follow(self, writer: _Writer, frame: object) -> None:
        if isinstance(frame, Data):
            self._data(writer, frame)
        elif isinstance(frame, Hello) and writer.hello is None:
            self._replace(frame)
            writer.hello = frame
            self._let_in(writer)
        elif isinstance(frame, Bye) and writer.epoch is not None:
            self._known.pop(writer.epoch, None)
        else:
            raise Malformed("a frame that only a reader sends" if writer.hello else "something before HELLO")

    def _replace(self, hello: Hello) -> None:
        """The same life of a writer cannot have two connections: the older one is lost and does not know it."""
        for other in list(self._writers.values()):
            if other.epoch == (hello.link, hello.epoch):
                other.connection.drop("came again on another connection")

    def _let_in(self, writer: _Writer) -> None:
        """Ask for what is not acknowledged; before we are bound nobody is asked."""
        if not self._bound or self._stopped or writer.next:
            return
        if not writer.connection.link:
            self._slow_down()
        elif writer.hello is not None and writer.epoch is not None:
            writer.next = max(writer.hello.next, self._known.get(writer.epoch, 0) + 1)
            writer.through = writer.next - 1
            self._remember(writer)
            writer.connection.send(resume(writer.next, self._window), text=True)
            writer.connection.flush()

    def _data(self, writer: _Writer, frame: Data) -> None:
        if not writer.next or frame.number != writer.next:
            raise Malformed(f"message {frame.number}, and {writer.next or 'none'} was to come")
        writer.unacknowledged_bytes += len(frame.payload)
        too_much = writer.unacknowledged_bytes > CREDIT_BYTES + FRAME_LIMIT_BYTES
        if frame.number > writer.through + self._window or too_much:
            raise Malformed("more than it was allowed to")
        writer.next += 1
        if not self._stopped:
            number, redelivered, ident, carried, payload = frame
            known = carried if carried.time_ms else carried._replace(time_ms=just_read().time_ms)
            self._arrive(Message(payload, ident, writer.number, redelivered, number, time.monotonic(), known))

    def _remember(self, writer: _Writer) -> None:
        if writer.epoch is not None:
            self._known[writer.epoch] = writer.through
            self._known.move_to_end(writer.epoch)
            if len(self._known) > REMEMBERED_LINKS:
                self._known.popitem(last=False)

    # Foreign peers --------------------------------------------------------------------------------

    def _arrive(self, message: Message) -> None:
        self._arrived.append(message)
        self._arrived_bytes += len(message.payload)
        if not self._held and (len(self._arrived) >= 2 * self._window or self._arrived_bytes >= 2 * CREDIT_BYTES):
            self._held = True
            self._slow_down()

    def _slow_down(self) -> None:
        """Read foreign peers only while what they send is wanted."""
        wanted = self._bound and not self._stopped and not self._held
        for writer in self._writers.values():
            if not writer.connection.link:
                (writer.connection.resume if wanted else writer.connection.pause)()

    def _foreign_id(self, payload: bytes) -> str:
        return content_id(self._topic, payload)
