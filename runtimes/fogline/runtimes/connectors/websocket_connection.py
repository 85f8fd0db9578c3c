"""One WebSocket connection over one socket, driven by the poller. Nothing here waits.

The library speaks the protocol without doing input or output; this file does that, in the thread that computes.

::

    greeting --handshake--> open --close frame, ours or theirs; a frame that must not be--> leaving --> over
        |                    |                                                               ^
        |--refused, no answer in time--------------------------------------------------------+
        +--the socket is lost, no answer to a ping------------------------------------------------> over

Leaving, nothing is handed over any more: the connection waits for the other side to hang up, for a second, so that
its last words are read. Closing a socket with unread data in it would throw them away.
"""

from __future__ import annotations

import collections
import socket
import time
from enum import Enum
from typing import Protocol

from websockets.client import ClientProtocol
from websockets.frames import OP_BINARY, OP_CONT, OP_PONG, OP_TEXT, CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.protocol import State as Wire
from websockets.server import ServerProtocol

from fogline.runtimes.connectors.websocket_greeting import (
    Manners,
    answer,
    answered,
    client_wire,
    refusal,
    server_wire,
)
from fogline.runtimes.poller import READ, WRITE, Poller

RECEIVED_BYTES = 64 * 1024
JOINED_BYTES = 256 * 1024
REASON_LETTERS = 100
"""Of a close frame, which holds 123 bytes."""

State = Enum("State", "GREETING OPEN LEAVING OVER")


class User(Protocol):
    """What a connection tells, always under the poller's lock."""

    def on_open(self, connection: Connection) -> None: ...
    def on_message(self, connection: Connection, payload: bytes, text: bool) -> None: ...
    def on_written(self, connection: Connection) -> None:
        """Something that waited for the socket was written."""

    def on_lost(self, connection: Connection, words: str) -> None:
        """It brings and takes nothing more. Once, also when it never opened."""

    def on_over(self, connection: Connection) -> None:
        """Its socket is closed. After `on_lost`."""


class Connection:
    """Made by `serve` or `call`. `send` only queues; `flush` after it."""

    def __init__(
        self, sock: socket.socket, wire: ServerProtocol | ClientProtocol, poller: Poller, user: User, manners: Manners
    ) -> None:
        self.state = State.GREETING
        self.link = False
        """Acknowledged, between two ends of Fogline; else the other side is foreign."""
        self.peer_name = ""
        """What the other side says it is called."""
        self.queued_bytes = self.written_bytes = 0
        """Counted from the beginning, what the library adds included."""
        self.sock = sock
        self._wire = wire
        self._poller = poller
        self._user = user
        self._manners = manners
        self._paused = False
        self._unsent = collections.deque[bytes]()
        self._half_closed = False
        self._fragments: list[bytes] | None = None
        """Of a message that has come in part."""
        self._text = False
        self._began = self._heard_at = time.monotonic()
        self._ping_at = 0.0
        """Since when a pong is owed; 0: none is."""
        self._pinged_at = self._began
        self._watched = 0
        self._tick_s = min(manners.patience.open_s, manners.patience.ping_s) / 4

    def start(self) -> None:
        """Begin the handshake. The user hears of it, of its failure too, from here on."""
        self._poller.keep_alive(self._tick_s)
        self._poller.call_later(self._tick_s, self._tick)
        self.flush()

    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN

    @property
    def _speaks(self) -> bool:
        """Not so while what the other side said before its close frame is still being handed over."""
        return self.is_open and self._wire.state is Wire.OPEN

    @property
    def unsent_bytes(self) -> int:
        """What waits until the socket takes it."""
        return self.queued_bytes - self.written_bytes

    # What the user does ---------------------------------------------------------------------------

    def send(self, payload: bytes, *, text: bool) -> None:
        """Queue one message; one that is no longer open takes nothing."""
        if self._speaks:
            (self._wire.send_text if text else self._wire.send_binary)(payload)

    def pause(self) -> None:
        """Hand over nothing more, beyond what is already read, until `resume`."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        self._paused = False
        self._watch()

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Say goodbye; what is queued is written first."""
        if self.is_open:
            if self._speaks:
                self._wire.send_close(code, reason[:REASON_LETTERS])
            self._leave(reason or "closed")
            self.flush()
        elif self.state is State.GREETING:
            self.drop("closed")

    def fail(self, reason: str) -> None:
        """The other side sent what it must not."""
        if self.is_open:
            self._wire.fail(CloseCode.POLICY_VIOLATION, reason[:REASON_LETTERS])
            self._leave(f"sent {reason}")
            self.flush()

    def drop(self, words: str) -> None:
        """Hang up without a word."""
        if self.state is State.OVER:
            return
        lost, self.state = self.state is not State.LEAVING, State.OVER
        self._poller.forget(self.sock)
        self.sock.close()
        if lost:
            self._user.on_lost(self, words)
        self._user.on_over(self)

    def flush(self) -> None:
        """Write what is queued; the rest goes when the socket takes it."""
        if self.state is not State.OVER:
            self._collect()
            self._write()
            self._watch()

    # Reading --------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & READ and self.state is not State.OVER:
            self._read()
        if events & WRITE and self.state is not State.OVER:
            before = self.written_bytes
            self._write()
            self._watch()
            if self.written_bytes > before and self.is_open:
                self._user.on_written(self)

    def _read(self) -> None:
        try:
            data = self.sock.recv(RECEIVED_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.drop(error.strerror or str(error))
            return
        self._heard_at = time.monotonic()
        try:
            if data:
                self._wire.receive_data(data)
            else:
                self._wire.receive_eof()
        except Exception as error:  # noqa: BLE001 - what a peer sends ends its connection, not the segment
            self.drop(f"sent what is no WebSocket: {error!r}")
            return
        for event in self._wire.events_received():
            self._take(event)
        self._look_at_the_end(hung_up=not data)

    def _take(self, event: Request | Response | Frame) -> None:
        if isinstance(event, Request):
            self._answer(event)
        elif isinstance(event, Response):
            self._answered(event)
        elif self.is_open:
            self._take_frame(event)

    def _take_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is OP_PONG:
            self._ping_at = 0.0
        elif opcode in (OP_TEXT, OP_BINARY, OP_CONT):
            if opcode is not OP_CONT:
                self._text, self._fragments = opcode is OP_TEXT, []
            if self._fragments is not None and frame.data:  # any number of empty ones may come
                self._fragments.append(bytes(frame.data))
            if frame.fin:
                payload, self._fragments = b"".join(self._fragments or ()), None
                self._user.on_message(self, payload, self._text)

    def _look_at_the_end(self, *, hung_up: bool) -> None:
        """After the library has read something: it may have said the last word."""
        wire = self._wire
        if self.state is State.GREETING and (wire.handshake_exc is not None or hung_up):
            self._leave(refusal(wire.handshake_exc))
        elif self.is_open and (wire.state is not Wire.OPEN or wire.parser_exc is not None or hung_up):
            self._leave(self._parting())
        self.flush()
        if hung_up or (wire.close_rcvd is not None and not self._unsent):
            self.drop("hung up")

    def _parting(self) -> str:
        wrong, close = self._wire.parser_exc, self._wire.close_rcvd
        if wrong is not None and not isinstance(wrong, EOFError):
            return f"sent what is no WebSocket: {wrong}"
        if close is not None:
            return f"closed the connection: {close.reason or int(close.code)}"
        return "connection lost"

    # Greeting -------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> None:
        """The other side asks to come in."""
        assert isinstance(self._wire, ServerProtocol)
        self.peer_name, words = answer(self._wire, request, self._manners)
        self._enter(words)

    def _answered(self, response: Response) -> None:
        """The other side lets us in, or does not."""
        assert isinstance(self._wire, ClientProtocol)
        self.peer_name, words = answered(self._wire, response, self._manners)
        if words and self._wire.state is Wire.OPEN:
            self._wire.fail(CloseCode.POLICY_VIOLATION, "not the other end of this queue")
        self._enter(words)

    def _enter(self, refused: str) -> None:
        if refused:
            self._leave(refused)
        else:
            self.link = self._wire.subprotocol is not None
            self.state = State.OPEN
            self._user.on_open(self)

    # Writing and ending ---------------------------------------------------------------------------

    def _leave(self, words: str) -> None:
        if self.state in (State.GREETING, State.OPEN):
            self.state = State.LEAVING
            self._fragments = None
            self._poller.call_later(self._manners.patience.leave_s, lambda: self.drop("hung up"))
            self._user.on_lost(self, words)

    def _collect(self) -> None:
        """Joined into pieces of some size, so that a batch is few calls of the system."""
        piece, size = list[bytes](), 0
        for data in self._wire.data_to_send():
            if not data:
                self._half_closed = True
            piece.append(data)
            size += len(data)
            if size >= JOINED_BYTES:
                self._queue(piece, size)
                piece, size = [], 0
        if size:
            self._queue(piece, size)

    def _queue(self, piece: list[bytes], size: int) -> None:
        self._unsent.append(b"".join(piece))
        self.queued_bytes += size

    def _write(self) -> None:
        try:
            while self._unsent:
                piece = self._unsent[0]
                sent = self.sock.send(piece)
                self.written_bytes += sent
                if sent < len(piece):
                    self._unsent[0] = piece[sent:]
                    return
                self._unsent.popleft()
            if self._half_closed:
                self._half_closed = False
                self.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError as error:
            self.drop(error.strerror or str(error))

    def _watch(self) -> None:
        if self.state is State.OVER:
            return
        paused = self._paused and self.is_open
        events = (0 if paused else READ) | (WRITE if self._unsent else 0)
        if events != self._watched:
            self._watched = events
            if events:
                self._poller.watch(self.sock, events, self._ready)
            else:
                self._poller.forget(self.sock)

    def _tick(self) -> None:
        if self.state is State.OVER:
            return
        now, patience = time.monotonic(), self._manners.patience
        if self.state is State.GREETING and now - self._began >= patience.open_s:
            self.drop(f"no handshake within {patience.open_s:g} s")
        elif self.is_open and self._paused:
            self._ping_at = 0.0  # an answer may be here and unread
        elif self.is_open and self._ping_at and now - max(self._ping_at, self._heard_at) >= patience.ping_s:
            self.drop(f"no answer to a ping for {patience.ping_s:g} s")
        elif self._speaks and not self._ping_at and now - self._pinged_at >= patience.ping_s:
            self._ping_at = self._pinged_at = now
            self._wire.send_ping(b"fogline")
            self.flush()
        self._poller.call_later(self._tick_s, self._tick)


def serve(sock: socket.socket, poller: Poller, user: User, manners: Manners) -> Connection:
    """The connection of a socket that was accepted."""
    return Connection(sock, server_wire(manners), poller, user, manners)


def call(sock: socket.socket, host: str, port: int, poller: Poller, user: User, manners: Manners) -> Connection:
    """The connection of a socket that was connected to `host`."""
    return Connection(sock, client_wire(host, port, manners), poller, user, manners)
