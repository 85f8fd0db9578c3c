"""The writing end: over an acknowledged link, or plainly to foreign readers.

An item waits, is under way, and is confirmed. To a Fogline reader it is under way from its first sending until the
ACK. With nobody there it waits: that is the back-pressure. To foreign readers it is under way until the sockets of
all that were connected have taken it, and no longer: nobody tells whether it was read. A listening end that no
foreign reader is connected to confirms it as unrouted; one that dials its foreign reader waits for it.
"""

from __future__ import annotations

import collections
import logging
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from fogline.runtimes.codecs import PAYLOAD_LIMIT_BYTES
from fogline.runtimes.connectors.base import Receipt, Sink
from fogline.runtimes.connectors.websocket_connection import Connection
from fogline.runtimes.connectors.websocket_frames import (
    CREDIT_BYTES,
    NAME_LIMIT_BYTES,
    Ack,
    Malformed,
    Resume,
    bye,
    data,
    hello,
    parse,
)
from fogline.runtimes.connectors.websocket_peers import Listener, Reach
from fogline.runtimes.errors import Superseded
from fogline.runtimes.message import Item, content_id
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

log = logging.getLogger("fogline.websocket")

READER_BYTES = 1024 * 1024
"""Unwritten to one foreign reader, after which nothing more is given to any."""
GIVEN_AT_ONCE_BYTES = 64 * 1024
"""Confirmed together."""


class _Open(NamedTuple):
    """An item on its way."""

    number: int
    item: Item
    receipt: Receipt


class _Given(NamedTuple):
    """Items that every foreign reader of that moment was given, and where each one's stream was after them."""

    items: list[_Open]
    marks: list[tuple[Connection, int]]


class WebSocketSink(Sink):
    failure: Superseded | None = None

    def __init__(self, endpoint: EndpointSpec, poller: Poller, reach: Reach) -> None:
        self.endpoint = endpoint
        self.peers = reach(self)
        self.listens = isinstance(self.peers, Listener)
        self._poller = poller
        self._epoch = uuid.uuid4().hex
        self._as_text = endpoint.options.get("format", "json") in ("json", "text")
        self._waiting: collections.deque[_Open] = collections.deque()
        self._last_number = 0
        self._link: Connection | None = None
        self._under_way: collections.deque[_Open] = collections.deque()
        self._under_way_bytes = 0
        self._sent_through = 0
        """The highest number that was ever sent."""
        self._allowed_through = 0
        """The highest number that may be sent; 0: the reader has not said RESUME."""
        self._readers: list[Connection] = []
        self._given: collections.deque[_Given] = collections.deque()
        self._moving = False

    @property
    def connected(self) -> bool:
        return self.peers.up

    @property
    def error(self) -> str:
        if not self.peers.error and self._waiting and self.peers.up and self._needs_reader:
            return f"{self.peers.place}: no reader is connected"
        return self.peers.error

    @property
    def _needs_reader(self) -> bool:
        return self.endpoint.read_by_stage and self._link is None

    def open(self) -> None:
        self.peers.open()

    def close(self) -> None:
        with self._poller.lock:
            if self._link is not None:
                self._link.send(bye(), text=True)
            self.peers.close()

    def send(self, items: Sequence[Item]) -> Receipt:
        with self._poller.lock:
            receipt = Receipt(len(items))
            for item in items:
                if len(item.payload) > PAYLOAD_LIMIT_BYTES:
                    self._cannot_take(item, receipt)
                    continue
                self._last_number += 1
                self._waiting.append(_Open(self._last_number, item, receipt))
            self._move()
        return receipt

    # From the connections -------------------------------------------------------------------------

    def on_open(self, connection: Connection) -> None:
        if not connection.link:
            self._readers.append(connection)
            self._move()
            return
        if self._link is not None:
            self._link.drop("its reader came again on another connection")
        self._link = connection
        oldest = self._waiting[0].number if self._waiting else self._last_number + 1
        connection.send(hello(self.endpoint.client_id, self._epoch, oldest), text=True)
        connection.flush()

    def on_message(self, connection: Connection, payload: bytes, text: bool) -> None:
        """Of a reader. What a foreign one says is passed over."""
        if connection is not self._link:
            return
        try:
            self._follow(parse(payload, text=text))
        except Malformed as error:
            connection.fail(str(error))

    def on_written(self, connection: Connection) -> None:
        if not connection.link:
            self._move()

    def on_lost(self, connection: Connection) -> None:
        """Over a link everything under way goes again, from the oldest on."""
        if connection in self._readers:
            self._readers.remove(connection)
            self._move()
        if connection is self._link:
            self._link, self._allowed_through = None, 0
            self._waiting.extendleft(reversed(self._under_way))
            self._under_way.clear()
            self._under_way_bytes = 0

    # The link -------------------------------------------------------------------------------------

    def _follow(self, frame: object) -> None:
        if isinstance(frame, Resume) and not self._allowed_through:
            self._acknowledged(frame.start - 1)
            self._allowed_through = frame.start - 1 + frame.credit
        elif isinstance(frame, Ack) and self._allowed_through:
            self._acknowledged(frame.through)
            self._allowed_through = max(self._allowed_through, frame.through + frame.credit)
        else:
            raise Malformed("a frame that a reader does not send now")
        self._move()

    def _acknowledged(self, through: int) -> None:
        if through > self._sent_through:
            raise Malformed(f"an acknowledgement of message {through}, and {self._sent_through} was the last")
        under_way, waiting = self._under_way, self._waiting
        while under_way and under_way[0].number <= through:
            done = under_way.popleft()
            self._under_way_bytes -= len(done.item.payload)
            done.receipt.left -= 1
        while waiting and waiting[0].number <= through:  # acknowledged on an earlier connection
            waiting.popleft().receipt.left -= 1

    def _send(self, link: Connection) -> None:
        """What waits, as far as the credit goes."""
        waiting, under_way = self._waiting, self._under_way
        while waiting and waiting[0].number <= self._allowed_through:
            number, item, _ = waiting[0]
            size = len(item.payload)
            if under_way and self._under_way_bytes + size > CREDIT_BYTES:
                break
            under_way.append(waiting.popleft())
            self._under_way_bytes += size
            again = number <= self._sent_through
            frame = data(number, _short(item.id), item.payload, redelivered=again, carried=item.carried)
            link.send(frame, text=False)
            self._sent_through = max(self._sent_through, number)
        link.flush()

    # Both, and foreign readers --------------------------------------------------------------------

    def _move(self) -> None:
        """Send what can be sent. A connection that breaks meanwhile calls this again, which must not get in between."""
        if self._moving:
            return
        self._moving = True
        try:
            if self._link is not None:
                self._send(self._link)
            elif not self.endpoint.read_by_stage:
                self._settle()
                self._give()
                self._settle()
        finally:
            self._moving = False

    def _give(self) -> None:
        """To every foreign reader, as long as each has room."""
        waiting = self._waiting
        while waiting and all(reader.unsent_bytes < READER_BYTES for reader in self._readers):
            if not self._readers:
                if self.listens:
                    _unrouted(waiting.popleft())
                    continue
                return
            given = [waiting.popleft()]
            size = len(given[0].item.payload)
            while waiting and size < GIVEN_AT_ONCE_BYTES:
                size += len(waiting[0].item.payload)
                given.append(waiting.popleft())
            self._sent_through = max(self._sent_through, given[-1].number)
            marks = []
            for reader in list(self._readers):
                for entry in given:
                    reader.send(entry.item.payload, text=self._as_text and _is_text(entry.item.payload))
                reader.flush()
                marks.append((reader, reader.queued_bytes))
            self._given.append(_Given(given, marks))

    def _settle(self) -> None:
        """Confirm what all its readers' sockets have taken; what none of them took was not delivered."""
        lost: list[_Open] = []
        while self._given:
            items, marks = self._given[0]
            if any(reader.is_open and reader.written_bytes < mark for reader, mark in marks):
                break
            self._given.popleft()
            if any(reader.written_bytes >= mark for reader, mark in marks):
                for entry in items:
                    entry.receipt.left -= 1
            elif self.listens:
                for entry in items:
                    _unrouted(entry)
            else:
                lost += items
        self._waiting.extendleft(reversed(lost))

    def _cannot_take(self, item: Item, receipt: Receipt) -> None:
        """Only a copy of what another connector let in can be so large. It would never pass, and hold all others."""
        log.error(
            "queue %s: a message of %d bytes is too large for it: not sent", self.endpoint.queue, len(item.payload)
        )
        receipt.unrouted += 1
        receipt.left -= 1


def _unrouted(entry: _Open) -> None:
    entry.receipt.unrouted += 1
    entry.receipt.left -= 1


def _short(ident: str) -> str:
    """An id grows with each stage; one that no frame holds is named by its hash."""
    return ident if len(ident.encode()) <= NAME_LIMIT_BYTES else content_id("", ident.encode())


def _is_text(payload: bytes) -> bool:
    """A text frame that is not UTF-8 would end the connection."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
