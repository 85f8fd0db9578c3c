"""WebSocket ends in one thread, and foreign peers that are served while they wait."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection

from fogline.runtimes.connectors.base import Receipt
from fogline.runtimes.connectors.websocket import PATIENCE, WebSocket
from fogline.runtimes.connectors.websocket_greeting import Patience
from fogline.runtimes.connectors.websocket_sink import WebSocketSink
from fogline.runtimes.connectors.websocket_source import WebSocketSource
from fogline.runtimes.message import Item, Message
from fogline.runtimes.poller import Poller
from support.mosquitto import free_port
from support.segments import DEADLINE_S, websocket_end

WINDOW = 8
T = TypeVar("T")


class Ends:
    """Sources and sinks of one queue `q` at one port, driven by this thread alone."""

    def __init__(self, patience: Patience = PATIENCE) -> None:
        self.port = free_port()
        self.poller = Poller()
        self.made: list[WebSocketSource | WebSocketSink] = []
        self._connector = WebSocket(patience)
        self._threads = ThreadPoolExecutor()

    def source(self, *, bind: bool = True, stage: str = "reader", **more: Any) -> WebSocketSource:
        """Opened, and bound."""
        source = self._connector.source(websocket_end("q", stage, self.port, **more), self.poller, WINDOW)
        assert isinstance(source, WebSocketSource)
        self.made.append(source)
        source.open()
        if bind:
            source.bind()
        return source

    def sink(self, stage: str = "writer", *, read_by_stage: bool = True, **more: Any) -> WebSocketSink:
        """Opened."""
        endpoint = websocket_end("q", stage, self.port, read_by_stage=read_by_stage, **more)
        sink = self._connector.sink(endpoint, self.poller)
        assert isinstance(sink, WebSocketSink)
        self.made.append(sink)
        sink.open()
        return sink

    def listening_writer(self, **options: Any) -> WebSocketSink:
        """A writer that serves foreign readers."""
        return self.sink(read_by_stage=False, options={"role": "listen", **options})

    def beside(self, work: Callable[[], T]) -> T:
        """What `work` returns, done in a thread while this one serves the ends."""
        future = self._threads.submit(work)
        self.until(future.done, "the foreign side is done")
        return future.result()

    def foreign(self, path: str = "/t/q", **more: Any) -> ClientConnection:
        """A foreign peer that connects."""
        return self.beside(lambda: connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **more))

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, what
            self.poller.wait(0.02)

    def serve(self, for_s: float) -> None:
        """For what must not happen meanwhile."""
        until = time.monotonic() + for_s
        while time.monotonic() < until:
            self.poller.wait(0.02)

    def close(self) -> None:
        for each in self.made:
            each.close()
        self._threads.shutdown()
        self.poller.close()


@contextmanager
def ends(patience: Patience = PATIENCE) -> Iterator[Ends]:
    """All of it closed afterwards."""
    made = Ends(patience)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def link() -> Iterator[Ends]:
    """Ends with the patience they have in service."""
    with ends() as made:
        yield made


def items(*payloads: bytes) -> list[Item]:
    return [Item(0, f"id-{payload[:20]!r}", payload) for payload in payloads]


def numbers(start: int, stop: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, stop)]


def taken(source: WebSocketSource, count: int) -> list[Message]:
    """So many messages, or what came in time."""
    messages: list[Message] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(messages) < count and time.monotonic() < deadline:
        messages += source.take(count - len(messages), 0.2)
    return messages


def payloads(messages: Sequence[Message]) -> list[bytes]:
    return [message.payload for message in messages]


def confirmed(made: Ends, receipt: Receipt) -> Receipt:
    made.until(lambda: receipt.done, "everything is confirmed")
    return receipt


def said(peer: ClientConnection | ServerConnection, *frames: Any) -> None:
    """Each is sent: text as text, bytes as binary, a list in fragments. It may hang up meanwhile."""
    with contextlib.suppress(ConnectionClosed):
        for frame in frames:
            peer.send(frame)
