"""uvicorn around the application: its own limits on connections, an end that lets callers finish, no signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fogline.runtimes.errors import NotConnected
from fogline.runtimes.logs import log
from fogline.runtimes.serving.certificate import Certificate

BACKLOG = 2048
LOOK_S = 1.0
LINGER_S = 2.0
PART_S = 1.0
SETTLE_S = 0.1
"""Between the wish to end and the end of listening: what had arrived while a batch was computed is read first."""
_HEADS = tuple(b"HTTP/1.1 %d" % each for each in (2, 3, 4, 5))
_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Corked:
    """A transport that sends the head of a response together with its body: one call of the kernel instead of two,
    which are a seventh of the time of a small request."""

    __slots__ = ("_head", "_protocol", "_transport", "_write")

    def __init__(self, transport: Any, protocol: _Protocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._write = transport.write
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            self._write(self._head + data)
            self._head = b""
        elif data.startswith(_HEADS) and data.endswith(b"\r\n\r\n"):
            self._head = data
        else:
            self._write(data)

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


class _Protocol(HttpToolsProtocol):
    """Knows since when a request is on its way: uvicorn waits for the rest of one for ever."""

    def connection_made(self, transport: Any) -> None:
        self._corked = _Corked(transport, self)
        self._lingering = False
        super().connection_made(self._corked)  # type: ignore[arg-type]
        self.begun_at: float | None = self.loop.time()

    def on_response_complete(self) -> None:
        self._corked.flush()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        if not self._lingering:
            super().data_received(data)

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

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.begun_at = self.loop.time()

    def on_message_complete(self) -> None:
        self.begun_at = None
        super().on_message_complete()

    def give_up(self) -> None:
        """The request does not come."""
        self.begun_at = None
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.write(_LATE)
        self.transport.close()


class Server(uvicorn.Server):
    """Runs in the calling thread until `end` is called, from any thread."""

    def __init__(
        self,
        application: Callable[..., Any],
        sock: socket.socket,
        timeout_s: float,
        certificate: Certificate | None = None,
    ) -> None:
        """`certificate` None: plain HTTP."""
        logger = logging.getLogger("uvicorn.error")
        logger.handlers, logger.propagate = log.handlers, False
        config = uvicorn.Config(
            application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
        )
        super().__init__(config)
        self.listening: Callable[[], None] = lambda: None
        """Called once connections are accepted."""
        self._sock = sock
        self._timeout_s = timeout_s
        self._certificate = certificate
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end_s: float | None = None
        self.cut = 0
        """Requests that were not answered when the deadline of the end passed."""

    def work(self) -> None:
        """Serve until the end."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            if self._end_s is not None:
                return
            runner.run(self._work())

    def end(self, deadline_s: float) -> None:
        """Accept nothing more; let the requests under way be answered. Safe from any thread."""
        self._end_s = deadline_s
        self.config.timeout_graceful_shutdown = math.ceil(deadline_s)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The segment has its own handlers."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate is not None:
            self.config.ssl = self._certificate.context
        await super().startup(sockets)
        self.listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(SETTLE_S)
        parting = asyncio.get_running_loop().create_task(self._part())
        await super().shutdown(sockets)
        parting.cancel()
        self.cut = len(self.server_state.tasks)

    async def _part(self) -> None:
        """TLS waits for a caller to answer the farewell, and one that is idle does not: it would hold up the end."""
        while True:
            await asyncio.sleep(PART_S)
            for connection in list(self.server_state.connections):
                transport: Any = connection.transport
                if transport.is_closing() and not transport.get_write_buffer_size():
                    transport.abort()

    async def _work(self) -> None:
        looking = asyncio.get_running_loop().create_task(self._look())
        await self.serve([self._sock])
        looking.cancel()

    async def _look(self) -> None:
        """Close what has been half a request for too long; take over a renewed certificate."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(LOOK_S, self._timeout_s / 4))
            if self._certificate is not None:
                self._certificate.renew()
            late = loop.time() - self._timeout_s
            for connection in list(self.server_state.connections):
                if isinstance(connection, _Protocol) and connection.begun_at is not None and connection.begun_at < late:
                    connection.give_up()


def listener(host: str, port: int) -> socket.socket:
    """Bound, not listening yet. Raises NotConnected with the reason when the address cannot be had."""
    _allow_many_connections()
    everywhere = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if ":" in host or everywhere else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not everywhere))
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise NotConnected(f"cannot listen at {host or 'any address'}, port {port}: {error.strerror}") from None
    return sock


def _allow_many_connections() -> None:
    """Each is a descriptor; the soft limit of 1024 is for programs that use `select`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
