"""The two ways of having connections: listening for them, and dialing one that mends itself.

::

    Listener:   closed --open--> listening --close--> closed

    Dialer:     closed --open--> dialing --TCP--> greeting --handshake--> up
                                    ^                |                     |
                                    |             refused                lost
                                    +--back-off-- waiting <----------------+
                any --close--> closed

Only dialing runs in a thread of its own: name look-up and TCP connect may block for seconds, and another connector of
this segment must go on meanwhile.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Protocol

from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.websocket_connection import Connection, call, serve
from fogline.runtimes.connectors.websocket_greeting import Manners, url
from fogline.runtimes.errors import NotConnected
from fogline.runtimes.poller import READ, Poller

log = logging.getLogger("fogline.websocket")

MAX_CONNECTIONS = 64
"""At one listening end, those that still greet included."""
BACKLOG = 128
REST_S = 1.0
"""How long nobody is let in when the process is out of descriptors."""
TELL_S = 60.0
"""Between two complaints that there is no place left."""
STEADY_S = 10.0
"""A connection that lived this long was a good one: the back-off starts anew."""
LOOPBACK = ("localhost", "127.", "::1")

State = Enum("State", "CLOSED DIALING GREETING UP WAITING")


class User(Protocol):
    """A source or a sink, told of its connections under the poller's lock."""

    def on_open(self, connection: Connection) -> None: ...
    def on_message(self, connection: Connection, payload: bytes, text: bool) -> None: ...
    def on_written(self, connection: Connection) -> None: ...
    def on_lost(self, connection: Connection) -> None:
        """One that was open is so no longer."""


class Peers:
    """What both have in common. `error`: the last words about a missing connection."""

    def __init__(self, host: str, port: int, manners: Manners, poller: Poller, user: User) -> None:
        self.host, self.port = host, port
        self.manners = manners
        self.error = ""
        self._poller = poller
        self._user = user
        self._connections: set[Connection] = set()
        self._opened: set[Connection] = set()

    @property
    def place(self) -> str:
        return url(self.host, self.port, self.manners.path)

    def on_open(self, connection: Connection) -> None:
        self._opened.add(connection)
        self._user.on_open(connection)

    def on_message(self, connection: Connection, payload: bytes, text: bool) -> None:
        self._user.on_message(connection, payload, text)

    def on_written(self, connection: Connection) -> None:
        self._user.on_written(connection)

    def on_lost(self, connection: Connection, words: str) -> None:
        if connection in self._opened:
            self._opened.discard(connection)
            self._user.on_lost(connection)

    def on_over(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def _leave(self) -> None:
        """Part from everybody, so that what was said last is read."""
        for connection in list(self._connections):
            connection.close()
        deadline = time.monotonic() + self.manners.patience.leave_s
        while self._connections and (left_s := deadline - time.monotonic()) > 0:
            self._poller.wait(left_s)
        for connection in list(self._connections):
            connection.drop("closed")


class Listener(Peers):
    """Lets in whoever greets well. A server named by a loopback address is listened for there alone."""

    def __init__(self, host: str, port: int, manners: Manners, poller: Poller, user: User) -> None:
        super().__init__(host, port, manners, poller, user)
        self._socket: socket.socket | None = None
        self._tell_at = 0.0

    @property
    def up(self) -> bool:
        return self._socket is not None

    def open(self) -> None:
        """Raises NotConnected when the port cannot be listened on."""
        with self._poller.lock:
            if self._socket is None:
                try:
                    self._socket = listen(self.host, self.port)
                except OSError as error:
                    raise NotConnected(self._cannot(error)) from None
                self._poller.watch(self._socket, READ, self._accept)
                self._poller.keep_alive(self.manners.patience.open_s / 4)  # greets also while user code runs

    def close(self) -> None:
        with self._poller.lock:
            if self._socket is not None:
                self._poller.forget(self._socket)
                self._socket.close()
                self._socket = None
            self._leave()

    def on_lost(self, connection: Connection, words: str) -> None:
        log.log(logging.INFO if connection in self._opened else logging.DEBUG, "a peer of %s %s", self.place, words)
        super().on_lost(connection, words)

    def _cannot(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"port {self.port} of this machine is taken: another process listens there"
        return f"cannot listen on port {self.port}: {error.strerror or error}"

    def _accept(self, _events: int) -> None:
        if self._socket is None:
            return
        try:
            sock, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:  # of one that is gone again, or no descriptor is left
            log.warning("%s: cannot let a peer in: %s", self.place, error.strerror or error)
            self._poller.forget(self._socket)
            self._poller.call_later(REST_S, self._let_in_again)
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            sock.close()
            self._tell_that_it_is_full()
            return
        prepare(sock)
        connection = serve(sock, self._poller, self, self.manners)
        self._connections.add(connection)
        connection.start()

    def _tell_that_it_is_full(self) -> None:
        """Now and then: a flood of connections must not become a flood of lines."""
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_S
            log.warning("%s: has %d connections: others are turned away", self.place, MAX_CONNECTIONS)

    def _let_in_again(self) -> None:
        if self._socket is not None:
            self._poller.watch(self._socket, READ, self._accept)


class Dialer(Peers):
    """One connection at a time. After the first success it is made again for ever."""

    def __init__(self, host: str, port: int, manners: Manners, poller: Poller, user: User) -> None:
        super().__init__(host, port, manners, poller, user)
        self.state = State.CLOSED
        self.peer_name = ""
        """Who answered last, welcome or not."""
        self._delays = Delays()
        self._mend = False
        self._attempt = 0
        self._up_since = 0.0
        self._current: Connection | None = None

    @property
    def up(self) -> bool:
        return self.state is State.UP

    def open(self) -> None:
        """Connect now. Raises NotConnected."""
        with self._poller.lock:
            self._dial()
            deadline = time.monotonic() + 2 * self.manners.patience.open_s
            while self.state in (State.DIALING, State.GREETING) and time.monotonic() < deadline:
                self._poller.wait(deadline - time.monotonic())
            if not self.up:
                self._give_up()
                raise NotConnected(self.error or f"{self.place}: no answer")
            self._mend = True

    def close(self) -> None:
        with self._poller.lock:
            self.state, self._mend, self._current = State.CLOSED, False, None
            self._leave()

    def on_open(self, connection: Connection) -> None:
        if connection is self._current:
            self.state, self.error = State.UP, ""
            self.peer_name = connection.peer_name
            self._up_since = time.monotonic()
            super().on_open(connection)

    def on_lost(self, connection: Connection, words: str) -> None:
        was_up = connection in self._opened
        super().on_lost(connection, words)
        if connection is self._current:
            self._current = None
            self.peer_name = connection.peer_name
            if was_up and time.monotonic() - self._up_since >= STEADY_S:
                self._delays.reset()
            self._lost(words, was_up=was_up)

    def _dial(self) -> None:
        self.state = State.DIALING
        self._attempt += 1
        threading.Thread(target=self._connect, args=(self._attempt,), name="websocket-dial", daemon=True).start()

    def _connect(self, attempt: int) -> None:
        """In the dialing thread: what blocks, and nothing else."""
        try:
            sock = socket.create_connection((self.host, self.port), self.manners.patience.open_s)
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            self._poller.call_soon(partial(self._not_adopted, attempt, words))
        else:
            if not self._poller.call_soon(partial(self._adopt, attempt, sock)):
                sock.close()

    def _not_adopted(self, attempt: int, words: str) -> None:
        if attempt == self._attempt and self.state is State.DIALING:
            self._lost(words, was_up=False)

    def _adopt(self, attempt: int, sock: socket.socket) -> None:
        if attempt != self._attempt or self.state is not State.DIALING:  # closed meanwhile
            sock.close()
            return
        prepare(sock)
        self.state = State.GREETING
        self._current = call(sock, self.host, self.port, self._poller, self, self.manners)
        self._connections.add(self._current)
        self._current.start()

    def _lost(self, words: str, *, was_up: bool) -> None:
        self.error = f"{self.place}: {words}"
        self.state = State.WAITING
        if self._mend:
            if was_up:
                log.warning("%s; connecting again", self.error)
            self._poller.call_later(self._delays.next_s(), self._dial_again)

    def _dial_again(self) -> None:
        if self.state is State.WAITING:
            self._dial()

    def _give_up(self) -> None:
        """Nothing is left open: whoever could not open need not close."""
        self.state, self._current = State.CLOSED, None
        for connection in list(self._connections):
            connection.drop("no answer")


Reach = Callable[[User], Listener | Dialer]
"""Makes the peers of a source or a sink."""


def prepare(sock: socket.socket) -> None:
    """What every socket of a connection is set to."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    if host.startswith(LOOPBACK):
        host = "127.0.0.1" if host == "localhost" else host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    elif socket.has_dualstack_ipv6():
        sock = socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    else:
        sock = socket.create_server(("", port), backlog=BACKLOG)
    sock.setblocking(False)
    return sock
