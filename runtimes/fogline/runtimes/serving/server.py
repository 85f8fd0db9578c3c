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

from fogline.runtimes.errors import NotConnected
from fogline.runtimes.logs import log
from fogline.runtimes.serving.app import Application
from fogline.runtimes.serving.certificate import Certificate
from fogline.runtimes.serving.protocol import Protocol

BACKLOG = 2048
LOOK_S = 1.0
PART_S = 1.0
SETTLE_S = 0.1
"""Between the wish to end and the end of listening: what had arrived while a batch was computed is read first."""


class Server(uvicorn.Server):
    """Runs in the calling thread until `end` is called, from any thread."""

    def __init__(
        self, application: Application, sock: socket.socket, timeout_s: float, certificate: Certificate | None = None
    ) -> None:
        """`certificate` None: plain HTTP."""
        logger = logging.getLogger("uvicorn.error")
        logger.handlers, logger.propagate = log.handlers, False
        config = uvicorn.Config(
            application,
            http=Protocol,
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
        owing = sum(isinstance(each, Protocol) and each.owes for each in self.server_state.connections)
        self.cut = len(self.server_state.tasks) + owing

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
        """Close what has been half a request for too long, or idle; take over a renewed certificate."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(LOOK_S, self._timeout_s / 4))
            if self._certificate is not None:
                self._certificate.renew()
            now = loop.time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.look(now, self._timeout_s)


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
