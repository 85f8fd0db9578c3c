"""HTTP of one connection: uvicorn's, with a short way for requests that come whole.

::

    idle --headers--> short: POST to an inference, a small body of known length, nothing before it under way
                        --body--> asked --answer--> replied in one write --> idle
                      else: uvicorn's cycle of request and response, a task of its own through ASGI

A head that came before on this connection, byte for byte, is not parsed again: it can only mean the same.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Collection
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fogline.runtimes.serving.app import Application, Route
from fogline.runtimes.serving.http import JSON, Reply

LINGER_S = 2.0
SHORT_BYTES = 65_536
"""A larger body is read with pauses, so that a connection holds no more than this."""
KNOWN_HEADS, KNOWN_BYTES = 8, 2048
"""Heads that a connection keeps, and how long one may be. The head holds the length of the body."""
_END = b"\r\n\r\n"
_HEADS = tuple(b"HTTP/1.1 %d" % each for each in (2, 3, 4, 5))
_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Corked:
    """A transport that sends the head of a response together with its body: one call of the kernel instead of two,
    which are a seventh of the time of a small request."""

    __slots__ = ("_buffered_bytes", "_fd", "_head", "_protocol", "_transport", "_write", "is_closing")

    def __init__(self, transport: Any, protocol: Protocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._write, self._buffered_bytes = transport.write, transport.get_write_buffer_size
        self.is_closing = transport.is_closing
        self._head = b""
        plain = transport.get_extra_info("sslcontext") is None
        self._fd = transport.get_extra_info("socket").fileno() if plain else None

    def write_whole(self, data: bytes) -> None:
        """Head and body together, and at once: uvloop writes only when all callbacks of a turn of the loop are done,
        those of other requests too."""
        if self._fd is not None and not self._buffered_bytes() and not self.is_closing():
            try:
                sent = os.write(self._fd, data)
            except OSError:  # what is the matter with the connection, the transport finds out
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self._write(data)

    def write(self, data: bytes) -> None:
        if self._head:
            self.write_whole(self._head + data)
            self._head = b""
        elif data.startswith(_HEADS) and data.endswith(_END):
            self._head = data
        else:
            self.write_whole(data)

    def flush(self) -> None:
        """The response had no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        if not self._protocol.lingers():
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Flow(FlowControl):
    """Reads no further while requests wait for the one before them. uvicorn reads on with each reply: a caller that
    sends and sends, and reads no replies, would fill the memory with what is not answered yet."""

    def __init__(self, transport: asyncio.Transport, waiting: Collection[object]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class _Exchange:
    """A request on the short way: stands where uvicorn has its cycle of request and response."""

    __slots__ = ("disconnected", "headers", "keep_alive", "more_body", "parts", "response_complete", "route")
    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(self, route: Route, headers: dict[bytes, bytes], keep_alive: bool) -> None:
        self.route, self.headers, self.keep_alive = route, headers, keep_alive
        self.parts: list[bytes] = []
        self.more_body = True
        self.response_complete = self.disconnected = False

    @property
    def body(self) -> bytes:
        """As far as it came."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class Protocol(HttpToolsProtocol):
    """Knows since when a request is on its way: uvicorn waits for the rest of one for ever."""

    cycle: Any

    def connection_made(self, transport: Any) -> None:
        self._application: Application = self.config.app  # type: ignore[assignment]
        self._corked = _Corked(transport, self)
        self._lingering = False
        self._short_bytes = min(SHORT_BYTES, self._application.limit_bytes)
        self._heads: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")
        self._known: dict[bytes, tuple[Route, dict[bytes, bytes], int]] = {}
        """Heads of requests on the short way: what they ask for, their headers, and the length of the body."""
        super().connection_made(self._corked)  # type: ignore[arg-type]
        self.flow = _Flow(self.transport, self.pipeline)
        self.begun_at: float | None = self.loop.time()
        self.idle_since: float | None = None

    def on_response_complete(self) -> None:
        """Between requests there is no timer of uvicorn's, which would be made and undone for each: the server looks at
        `idle_since`."""
        self._corked.flush()
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self.idle_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        before = self.cycle
        if self.begun_at is not None or (before is not None and not before.response_complete) or self.flow.write_paused:
            super().data_received(data)
            return
        head, _, body = data.partition(_END)
        known = self._known.get(head)
        if known is not None and len(body) == known[2]:
            self.idle_since = None
            self.cycle = exchange = _Exchange(known[0], known[1], True)
            exchange.parts.append(body)
            self._ask(exchange)
            return
        super().data_received(data)
        if self.cycle is not before:
            self._learn(head, body)

    def _learn(self, head: bytes, body: bytes) -> None:
        """The parser found one request, and nothing behind it."""
        exchange = self.cycle
        if not isinstance(exchange, _Exchange) or exchange.more_body or not exchange.keep_alive:
            return
        if exchange.parts == [body] and len(head) <= KNOWN_BYTES:
            if len(self._known) >= KNOWN_HEADS:
                self._known.clear()
            self._known[head] = exchange.route, exchange.headers, len(body)

    def lingers(self) -> bool:
        """A caller that is still sending when it is refused would lose the reply to a reset: what it sends is read
        and dropped for a while, then the connection is closed."""
        sending = self.cycle is not None and self.cycle.response_complete and self.cycle.more_body
        if self._lingering or not sending or self.transport.is_closing():
            return False
        self._lingering, self.begun_at = True, None
        if self.transport.can_write_eof():  # TLS cannot
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_S, self.transport.close)
        return True

    @property
    def owes(self) -> bool:
        """Whether a request on the short way has no reply yet."""
        return isinstance(self.cycle, _Exchange) and not self.cycle.response_complete

    def on_message_begin(self) -> None:
        """uvicorn's scope waits until the headers say that it is needed."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self.begun_at, self.idle_since = self.loop.time(), None

    def on_headers_complete(self) -> None:
        exchange = self._exchange()
        if exchange is not None:
            self.cycle = exchange
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, _Exchange):
            self.cycle.parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.begun_at = None
        exchange = self.cycle
        if not isinstance(exchange, _Exchange):
            super().on_message_complete()
            return
        self._ask(exchange)

    def _ask(self, exchange: _Exchange) -> None:
        """It is here as a whole."""
        exchange.more_body = False
        reply = functools.partial(self._reply, exchange)
        self._application.ask(exchange.route, exchange.headers, exchange.body, reply)

    def _exchange(self) -> _Exchange | None:
        """The request whose headers are here, when it may go the short way."""
        route = self._application.short.get(self.url)
        if route is None or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return None
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"")
        if self.expect_100_continue or b"upgrade" in headers or not length.isdigit() or int(length) > self._short_bytes:
            return None
        return _Exchange(route, headers, self.parser.should_keep_alive())

    def _reply(self, exchange: _Exchange, reply: Reply) -> None:
        """All of it in one write."""
        exchange.response_complete = True
        if exchange.disconnected or self.transport.is_closing():
            return
        if reply.status == 200 and reply.type is JSON and not reply.headers and exchange.keep_alive:
            self._corked.write_whole(b"%b%d\r\n\r\n%b" % (self._usual_head(), len(reply.body), reply.body))
        else:
            self._corked.write_whole(self._whole(reply, exchange.keep_alive))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _usual_head(self) -> bytes:
        """Of most replies, up to the length. uvicorn replaces its headers, which hold the date, once a second."""
        known, head = self._heads
        if known is not self.server_state.default_headers:
            known = self.server_state.default_headers
            head = _joined(200, [*known, (b"content-type", JSON)]) + b"content-length: "
            self._heads = known, head
        return head

    def _whole(self, reply: Reply, keep_alive: bool) -> bytes:
        headers = [*self.server_state.default_headers, *reply.headers]
        if reply.status != 204:
            headers += [(b"content-type", reply.type), (b"content-length", b"%d" % len(reply.body))]
        if not keep_alive:
            headers.append((b"connection", b"close"))
        return _joined(reply.status, headers) + b"\r\n" + reply.body

    def look(self, now: float, timeout_s: float) -> None:
        """End what waits for a request for too long. `now` by the loop's clock."""
        if self.begun_at is not None and self.begun_at < now - timeout_s:
            self._give_up()
        elif self.idle_since is not None and self.idle_since < now - self.timeout_keep_alive:
            self.idle_since = None
            self.transport.close()

    def _give_up(self) -> None:
        """The request does not come."""
        self.begun_at = None
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.write(_LATE)
        self.transport.close()


def _joined(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join((STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers)))
