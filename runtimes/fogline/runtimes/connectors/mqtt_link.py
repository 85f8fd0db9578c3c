"""One MQTT connection that mends itself.

::

    closed --open--> dialing --TCP--> greeting --CONNACK--> up
                        ^                |                   |
                        |             refused               lost
                        +--back-off-- waiting <--------------+
    any --close--> closed        up --taken over--> superseded (never left)

Each connection is a fresh paho client, so nothing of an old one (packet ids, half-written packets, its
own queue) can leak into the next. Only dialing runs in a thread of its own: name look-up and TCP
connect may block for seconds, and another connector of this segment must go on meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from enum import Enum
from functools import partial
from typing import Any, Protocol

from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.mqtt_client import CONNECT_TIMEOUT_S, V5, V311, Arrival, Client, Session, probe
from fogline.runtimes.errors import NotConnected, Superseded
from fogline.runtimes.poller import READ, WRITE, Poller
from fogline.runtimes.spec import SUPERSEDED

log = logging.getLogger("fogline.mqtt")

TAKEN_OVER = 0x8E
UNSUPPORTED_VERSION = 0x84
PINGREQ = b"\xc0\x00"
STEADY_S = 10.0
"""A connection that lived this long was a good one: the back-off starts anew."""
EVICTIONS = 5
"""Some brokers (mosquitto 2.0.11) close a connection that was taken over without a word. A kept session
that is closed so often in a row, each time soon after a good connect, belongs to somebody else. The
two copies are evicted in turn, so only the one that was there first gets so far."""

_spoken: dict[str, int] = {}
"""Broker -> version of its last good connection from this process, so that only the first has to find out."""

State = Enum("State", "CLOSED DIALING GREETING UP WAITING SUPERSEDED")


class User(Protocol):
    """What the link tells its source or sink, always under the poller's lock."""

    def on_up(self, receive_maximum: int) -> None: ...
    def on_down(self) -> None: ...
    def on_message(self, arrival: Arrival) -> None: ...
    def on_confirmed(self, mid: int, reason: int) -> None: ...
    def on_subscribed(self, mid: int, refusal: str) -> None: ...
    def after_read(self) -> None: ...


class Link:
    """`open`, then `client` may be used while `up`; `flush` after each use. All under the poller's lock."""

    def __init__(self, session: Session, poller: Poller, user: User) -> None:
        self.session = session
        self.state = State.CLOSED
        self.error = ""
        self.failure: Superseded | None = None
        self.number = 0
        """Number of the connection, counting the good ones."""
        self.client: Client | None = None
        self.version: int | None = None
        """Protocol version of the broker; None: to be asked."""
        self.paused = False
        """The user has enough: leave what comes in the socket."""
        self._poller = poller
        self._user = user
        self._delays = Delays()
        self._mend = False
        self._events = 0
        self._up_since = 0.0
        self._evictions = 0
        self._refusal: Any = None
        self._attempt = 0
        self._watched: tuple[Any, int] = (None, 0)
        """What the poller was told last."""

    @property
    def up(self) -> bool:
        return self.state is State.UP

    @property
    def place(self) -> str:
        return f"{self.session.host}:{self.session.port}"

    def open(self) -> None:
        """Connect now. Raises NotConnected; after a success the link mends itself."""
        with self._poller.lock:
            self._dial()
            deadline = time.monotonic() + 3 * CONNECT_TIMEOUT_S
            while self.state in (State.DIALING, State.GREETING) and time.monotonic() < deadline:
                self._poller.wait(deadline - time.monotonic())
            if self.failure is not None:
                raise self.failure
            if not self.up:
                self._drop()
                self.state = State.CLOSED
                raise NotConnected(self.error or f"broker {self.place}: no answer")
            self._mend = True
            self._poller.keep_alive(self.session.keep_alive_s / 4)

    def close(self, timeout_s: float = 1.0) -> None:
        """Say goodbye. A kept session stays with the broker."""
        with self._poller.lock:
            was_up, self.state, self._mend = self.up, State.CLOSED, False
            if was_up and self.client is not None:
                self.client.leave(self.session, self._poller, timeout_s)
                self.client = None
            self._drop()

    # Connecting ---------------------------------------------------------------------------------

    def _dial(self) -> None:
        self.state = State.DIALING
        self._refusal = None
        self._attempt += 1
        arguments = (self._attempt, self.version)
        threading.Thread(target=self._connect, args=arguments, name="mqtt-dial", daemon=True).start()

    def _connect(self, attempt: int, version: int | None) -> None:
        """In the dialing thread: what blocks, and nothing else."""
        try:
            client = Client(self.session, version or probe(self.session), self)
            client.dial(self.session)
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            self._poller.call_soon(partial(self._not_adopted, attempt, words))
        else:
            if not self._poller.call_soon(partial(self._adopt, attempt, client)):
                client.drop(self._poller)

    def _not_adopted(self, attempt: int, words: str) -> None:
        if attempt == self._attempt and self.state is State.DIALING:
            self._evictions = 0
            self._lost(words)

    def _adopt(self, attempt: int, client: Client) -> None:
        if attempt != self._attempt or self.state is not State.DIALING:  # closed meanwhile
            client.drop(self._poller)
            return
        client.on_socket_close = lambda _client, _data, sock: self._poller.forget(sock)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        self.client, self.state = client, State.GREETING
        self._poller.call_later(CONNECT_TIMEOUT_S, partial(self._give_up_greeting, client))
        self.flush()

    def _give_up_greeting(self, client: Client) -> None:
        if self.client is client and self.state is State.GREETING:
            self._drop()
            if self.version == V5:  # amqtt waits for ever on the properties of version 5
                self.version = V311
                self._dial()
            else:
                self.version = V5
                self._lost(f"no answer to CONNECT within {CONNECT_TIMEOUT_S:g} s")

    def _on_connect(self, client: Client, _data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._events += 1
        if reason.is_failure:
            self._refusal = reason
            return
        self.version = V5 if client.v5 else V311
        if not client.v5:
            log.warning("broker %s speaks MQTT 3.1.1 only: ids and other metadata are lost", self.place)
        self.state, self.error = State.UP, ""
        self.number += 1
        self._up_since = time.monotonic()
        if not flags.session_present:
            self._evictions = 0
        self._user.on_up(getattr(properties, "ReceiveMaximum", 65535))
        self._poller.call_later(self.session.keep_alive_s / 4, partial(self._tick, client))

    # Losing and mending -------------------------------------------------------------------------

    def _on_disconnect(self, client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if client is not self.client:
            return
        self.client = None
        spoken = flags.is_disconnect_packet_from_server
        if self.state is State.CLOSED:
            return
        if spoken and reason.value == TAKEN_OVER:
            self._user.on_down()
            self._superseded()
        elif self.state is State.GREETING:
            self._turned_away()
        else:
            # paho before 2.2 reads a short DISCONNECT as reason 0: no reason is as good as no word.
            self._count_eviction(silent=not spoken or reason.value == 0)
            self._lost(f"closed the connection: {reason}" if spoken else "connection lost")

    def _turned_away(self) -> None:
        if self._refusal is None:
            self._lost("hung up at CONNECT")
        elif self._refusal.value == UNSUPPORTED_VERSION and self.version != V311:
            self.version = V311
            self._dial()
        else:
            self._lost(f"refused the connection: {self._refusal}")

    def _lost(self, words: str) -> None:
        was_up = self.state is State.UP
        self.error = f"broker {self.place}: {words}"
        self.state = State.WAITING
        if not was_up:
            self.version = None
        else:
            self._user.on_down()
            if time.monotonic() - self._up_since >= STEADY_S:
                self._delays.reset()
        if self._evictions >= EVICTIONS:
            self._superseded()
        elif self._mend:
            if was_up:
                log.warning("%s; connecting again", self.error)
            self._poller.call_later(self._delays.next_s(), self._dial_again)

    def _count_eviction(self, *, silent: bool) -> None:
        soon = time.monotonic() - self._up_since < STEADY_S
        self._evictions = self._evictions + 1 if self.session.keep and silent and soon else 0

    def _superseded(self) -> None:
        self.state = State.SUPERSEDED
        self.error = f"{SUPERSEDED}: another client reads as {self.session.client_id} at broker {self.place}"
        self.failure = Superseded(self.error)

    def _dial_again(self) -> None:
        if self.state is State.WAITING:
            self._dial()

    def _drop(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.drop(self._poller)

    # Driving ------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is queued; the rest goes when the socket takes it."""
        client = self.client
        if client is not None and client.want_write():
            client.loop_write()
        if client is not None and client is self.client:
            self._watch(client)

    def resume(self) -> None:
        """Undo `paused`: what was received meanwhile is read now, the rest when the socket is ready."""
        if self.paused:
            self.paused = False
            self._ready(READ)

    def _watch(self, client: Client) -> None:
        sock = client.socket()
        events = (0 if self.paused else READ) | (WRITE if client.want_write() else 0)
        if self._watched == (sock, events):
            return
        self._watched = sock, events
        if sock is not None and events:
            self._poller.watch(sock, events, self._ready)
        elif sock is not None:
            self._poller.forget(sock)

    def _ready(self, events: int) -> None:
        if events & READ:
            self._read()
            self._user.after_read()
        self.flush()

    def _read(self) -> None:
        """All packets that have arrived. paho reads one per call and does not say whether it did."""
        client = self.client
        while client is not None:
            before = self._events
            client.loop_read()
            if self.paused or client is not self.client:
                return
            if not client.buffered and (client.emptied or self._events == before):
                return  # an emptied socket need not be asked again: what comes next makes it ready

    def _tick(self, client: Client) -> None:
        """Keep-alive. While paused, paho could not see a PINGRESP and would hang up: then only ping."""
        if client is not self.client or not self.up:
            return
        if not self.paused:
            client.loop_misc()
        elif not client.want_write():
            self._ping(client)
        if client is self.client:
            self._poller.call_later(self.session.keep_alive_s / 4, partial(self._tick, client))
            self.flush()

    def _ping(self, client: Client) -> None:
        try:
            client.socket().send(PINGREQ)
        except BlockingIOError:
            return  # the broker does not read: it cannot be waiting for a sign of life
        except OSError as error:
            self._drop()
            self._lost(str(error))

    def on_arrival(self, arrival: Arrival) -> None:
        """From the client."""
        self._events += 1
        self._user.on_message(arrival)

    def on_confirmed(self, mid: int, reason: int) -> None:
        """From the client."""
        self._events += 1
        self._user.on_confirmed(mid, reason)

    def _on_subscribe(self, client: Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        self._events += 1
        if client is self.client:
            self._user.on_subscribed(mid, "; ".join(str(each) for each in reasons if each.is_failure))
