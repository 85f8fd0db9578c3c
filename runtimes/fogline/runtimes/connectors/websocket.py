"""WebSocket: an acknowledged link between stages of Fogline, plain frames to and from everybody else.

Of two ends one listens and the other dials, as `role` says. Who offers the subprotocol `fogline.link.v1` is of
Fogline: what it sends is acknowledged at the end of our segment, so that a death of either process loses nothing as
long as what the writer reads from keeps what is not acknowledged. Any other peer is foreign: one frame is one
message, and nobody confirms it. An end that dials a stage of its document, or serves one, deals with that stage
alone.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from fogline.runtimes import options
from fogline.runtimes.connectors.base import Connector, Sink, Source
from fogline.runtimes.connectors.websocket_connection import Connection
from fogline.runtimes.connectors.websocket_greeting import Manners, Patience, url
from fogline.runtimes.connectors.websocket_peers import LOOPBACK, Dialer, Listener, User, listen
from fogline.runtimes.connectors.websocket_sink import WebSocketSink
from fogline.runtimes.connectors.websocket_source import WebSocketSource
from fogline.runtimes.errors import NotConnected
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec, SpecError

PATIENCE = Patience()


class WebSocket:
    """The connector as the registry knows it."""

    def __init__(self, patience: Patience = PATIENCE) -> None:
        self._patience = patience

    def source(self, endpoint: EndpointSpec, poller: Poller, window: int) -> Source:
        manners = self._manners(endpoint, link=True, plain=_listens(endpoint, True) or not endpoint.written_by_stage)
        return WebSocketSource(endpoint, poller, window, lambda user: _reach(endpoint, manners, poller, user, True))

    def sink(self, endpoint: EndpointSpec, poller: Poller) -> Sink:
        listening = _listens(endpoint, False)
        if endpoint.group and not _listens(endpoint, True):  # made of a reader's end, to send it something
            place = url(endpoint.options["server"], endpoint.options["port"], f"/{endpoint.options['topic']}")
            raise SpecError(f"queue {endpoint.queue}: its reader dials {place}: only what listens there can send to it")
        plain = not endpoint.read_by_stage
        manners = self._manners(endpoint, link=not (plain and listening), plain=plain)
        return WebSocketSink(endpoint, poller, lambda user: _reach(endpoint, manners, poller, user, False))

    def check(self, endpoint: EndpointSpec) -> None:
        """A stage of the same document at the other end need not be there yet."""
        reads = bool(endpoint.group)
        given = _options(endpoint)
        manners = self._manners(endpoint, link=True, plain=True)
        if _listens(endpoint, reads):
            _check_port(given["server"], given["port"], manners)
        elif endpoint.written_by_stage if reads else endpoint.read_by_stage:
            _look_up(given["server"], given["port"])
        else:
            _visit(given["server"], given["port"], manners)

    def release(self, endpoint: EndpointSpec, *, others: bool = False) -> int:
        """A reader leaves nothing behind."""
        return 0

    def _manners(self, endpoint: EndpointSpec, *, link: bool, plain: bool) -> Manners:
        return Manners(endpoint.client_id, _options(endpoint)["topic"], link, plain, self._patience)


class _Nobody:
    """Only wants to know who is there."""

    def on_open(self, connection: Connection) -> None: ...
    def on_message(self, connection: Connection, payload: bytes, text: bool) -> None: ...
    def on_written(self, connection: Connection) -> None: ...
    def on_lost(self, connection: Connection) -> None: ...


def _check_port(host: str, port: int, manners: Manners) -> None:
    """A process of this pipeline that has the port is one that will be replaced. Raises NotConnected."""
    try:
        listen(host, port).close()
    except OSError as error:
        here = host if host.startswith(LOOPBACK) else "127.0.0.1"
        who = _visit(here, port, manners, must=False)
        if not manners.of_same_pipeline(who):
            whose = who or "another process"
            words = f"cannot listen on port {port} of this machine: {error.strerror or error}; {whose} has it"
            raise NotConnected(words) from None


def _look_up(host: str, port: int) -> None:
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotConnected(f"{host}:{port}: {error.strerror or error}") from None


def _visit(host: str, port: int, manners: Manners, *, must: bool = True) -> str:
    """Greet and leave; returns the name of who answers, be it with a refusal. Raises NotConnected if one `must`."""
    poller = Poller()
    try:
        visitor = Dialer(host, port, manners, poller, _Nobody())
        try:
            visitor.open()
        except NotConnected:
            if must:
                raise
        finally:
            visitor.close()
        return visitor.peer_name
    finally:
        poller.close()


def _reach(endpoint: EndpointSpec, manners: Manners, poller: Poller, user: User, reads: bool) -> Listener | Dialer:
    given = _options(endpoint)
    kind = Listener if _listens(endpoint, reads) else Dialer
    return kind(given["server"], given["port"], manners, poller, user)


def _listens(endpoint: EndpointSpec, reads: bool) -> bool:
    return options.listens(endpoint.options.get("role"), reads=reads, read_by_stage=endpoint.read_by_stage)


def _options(endpoint: EndpointSpec) -> Mapping[str, Any]:
    return options.defaults(options.CONNECTORS["websocket"], endpoint.options)


connector: Connector = WebSocket()
