"""One MQTT connection that mends itself.

::

    closed --open--> dialing --TCP--> greeting --CONNACK--> up
                        ^                |                   |
                        |             refused               lost
                        +--back-off-- waiting <--------------+
    any --close--> closed        up --taken over--> superseded (never left)

Each connection is a fresh client, so nothing of an old one (packet ids, half-written packets, its own
queue) can leak into the next. Only dialing runs in a thread of its own: name look-up and TCP
connect may block for seconds, and another connector of this segment must go on meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from enum import Enum
from functools import partial
from typing import Any, Protocol

from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.errors import NotConnected, Superseded
from fogline.runtimes.mqtt import reasons
from fogline.runtimes.mqtt.connection import CONNECT_TIMEOUT_S, Peer, probe
from fogline.runtimes.mqtt.connection import User as ClientUser
from fogline.runtimes.mqtt.decoder import Connack, Publish
from fogline.runtimes.mqtt.packets import V5, V311, Publisher
from fogline.runtimes.poller import READ, WRITE, Poller
from fogline.runtimes.spec import SUPERSEDED

log = logging.getLogger("fogline.mqtt")

STEADY_S = 10.0
"""A connection that lived this long was a good one: the back-off starts anew."""
EVICTIONS = 5
"""Some brokers (mosquitto 2.0.11) close a connection that was taken over without a word. A kept session
that is closed so often in a row, each time soon after a good connect, belongs to somebody else. The
two copies are evicted in turn, so only the one that was there first gets so far."""

State = Enum("State", "CLOSED DIALING GREETING UP WAITING SUPERSEDED")


class User(Protocol):
    """What the link tells its source or sink, always under the poller's lock."""

    def on_up(self, receive_maximum: int) -> None: ...
    def on_down(self) -> None: ...
    def on_publish(self, publish: Publish) -> None: ...
    def on_puback(self, mid: int, reason: int) -> None: ...
    def on_subscribed(self, mid: int, refusal: str) -> None: ...
    def on_unsubscribed(self, mid: int) -> None: ...
    def after_read(self) -> None: ...


class Client(Protocol):
    """One connection, as `fogline.runtimes.mqtt.connection.Connection` documents it."""

    version: int
    paused: bool

    @property
    def sock(self) -> Any: ...
    @property
    def unsent(self) -> object:
        """True or false: whether something is left to write."""

    def dial(self) -> None: ...
    def drop(self) -> None: ...
    def leave(self, timeout_s: float) -> None: ...
    def publish(
        self, publisher: Publisher, records: Iterable[tuple[bytes, bytes]], open_mids: Container[int]
    ) -> list[int]: ...
    def ack(self, mids: Iterable[int]) -> None: ...
    def subscribe(self, topic: str, qos: int) -> int: ...
    def unsubscribe(self, topic: str) -> int: ...
    def read(self) -> None: ...
    def write(self) -> None: ...
    def tick(self) -> None: ...


MakeClient = Callable[[Peer, int, ClientUser], Client]


class Link:
    """`open`, then `client` may be used while `up`; `flush` after each use. All under the poller's lock."""

    def __init__(self, peer: Peer, poller: Poller, user: User, make_client: MakeClient) -> None:
        self.peer = peer
        self.state = State.CLOSED
        self.error = ""
        self.failure: Superseded | None = None
        self.number = 0
        """Number of the connection, counting the good ones."""
        self.session_present = False
        """Whether the broker had kept our session for the present connection."""
        self.client: Client | None = None
        self.version: int | None = None
        """Protocol version of the broker; None: to be asked."""
        self.on_publish, self.on_puback = user.on_publish, user.on_puback
        self._poller = poller
        self._user = user
        self._make_client = make_client
        self._delays = Delays()
        self._mend = False
        self._up_since = 0.0
        self._evictions = 0
        self._attempt = 0
        self._tick_s = 0.0
        """Between two looks whether the connection is alive, as the broker wants it."""
        self._watched: tuple[Any, int] = (None, 0)
        """What the poller was told last."""

    @property
    def up(self) -> bool:
        return self.state is State.UP

    @property
    def place(self) -> str:
        return f"{self.peer.host}:{self.peer.port}"

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

    def close(self, timeout_s: float = 1.0) -> None:
        """Say goodbye. A kept session stays with the broker."""
        with self._poller.lock:
            was_up, self.state, self._mend = self.up, State.CLOSED, False
            client = self.client
            if was_up and client is not None:
                self.client = None
                self._forget()
                client.leave(timeout_s)
            self._drop()

    # Connecting ---------------------------------------------------------------------------------

    def _dial(self) -> None:
        self.state = State.DIALING
        self._attempt += 1
        arguments = (self._attempt, self.version)
        threading.Thread(target=self._connect, args=arguments, name="mqtt-dial", daemon=True).start()

    def _connect(self, attempt: int, version: int | None) -> None:
        """In the dialing thread: what blocks, and nothing else."""
        try:
            client = self._make_client(self.peer, version or probe(self.peer), self)
            client.dial()
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            self._poller.call_soon(partial(self._not_adopted, attempt, words))
        else:
            if not self._poller.call_soon(partial(self._adopt, attempt, client)):
                client.drop()

    def _not_adopted(self, attempt: int, words: str) -> None:
        if attempt == self._attempt and self.state is State.DIALING:
            self._evictions = 0
            self._lost(words)

    def _adopt(self, attempt: int, client: Client) -> None:
        if attempt != self._attempt or self.state is not State.DIALING:  # closed meanwhile
            client.drop()
            return
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

    def on_connack(self, connack: Connack) -> None:
        """From the client."""
        client = self.client
        if client is None or self.state is not State.GREETING:
            return
        if connack.reason >= reasons.FAILED:
            self._drop()
            self._turned_away(connack.reason)
            return
        self.version = client.version
        if client.version != V5:
            log.warning("broker %s speaks MQTT 3.1.1 only: ids and other metadata are lost", self.place)
        self.state, self.error = State.UP, ""
        self.number += 1
        self._up_since = time.monotonic()
        self.session_present = connack.session_present
        if not connack.session_present:
            self._evictions = 0
        self._tick_s = (connack.keep_alive_s or self.peer.wish.keep_alive_s) / 4
        self._poller.keep_alive(self._tick_s)
        self._user.on_up(connack.receive_maximum)
        self._poller.call_later(self._tick_s, partial(self._tick, client))

    # Losing and mending -------------------------------------------------------------------------

    def on_disconnect(self, reason: int) -> None:
        """From the client: the broker said so."""
        greeting = self.state is State.GREETING
        self._drop()
        if reason == reasons.TAKEN_OVER:
            self._user.on_down()
            self._superseded()
        elif greeting:
            self._turned_away(reason)
        else:
            self._evictions = 0
            self._lost(f"closed the connection: {reasons.words(reason)}")

    def on_lost(self, words: str) -> None:
        """From the client: without a word of the broker."""
        greeting = self.state is State.GREETING
        self._drop()
        if greeting:
            self._lost(f"no answer to CONNECT: {words}")
        else:
            self._count_eviction()
            self._lost(words)

    def _turned_away(self, reason: int) -> None:
        if reason == reasons.UNSUPPORTED_VERSION and self.version != V311:
            self.version = V311
            self._dial()
        else:
            self._lost(f"refused the connection: {reasons.words(reason)}")

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

    def _count_eviction(self) -> None:
        soon = time.monotonic() - self._up_since < STEADY_S
        self._evictions = self._evictions + 1 if self.peer.wish.session_expiry_s and soon else 0

    def _superseded(self) -> None:
        self.state = State.SUPERSEDED
        self.error = f"{SUPERSEDED}: another client reads as {self.peer.wish.client_id} at broker {self.place}"
        self.failure = Superseded(self.error)

    def _dial_again(self) -> None:
        if self.state is State.WAITING:
            self._dial()

    def _drop(self) -> None:
        client, self.client = self.client, None
        self._forget()
        if client is not None:
            client.drop()

    # Driving ------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is queued; the rest goes when the socket takes it."""
        client = self.client
        if client is not None and client.unsent:
            client.write()
        if client is not None and client is self.client:
            self._watch(client)

    @property
    def paused(self) -> bool:
        """The user has enough: what comes stays in the socket."""
        return self.client is not None and self.client.paused

    def pause(self) -> None:
        """Hand over nothing more until `resume`."""
        if self.client is not None:
            self.client.paused = True

    def resume(self) -> None:
        """Undo `pause`: what was received meanwhile is read now, the rest when the socket is ready."""
        if self.client is not None and self.client.paused:
            self.client.paused = False
            self._ready(READ)

    def _watch(self, client: Client) -> None:
        sock = client.sock
        events = (0 if client.paused else READ) | (WRITE if client.unsent else 0)
        if self._watched == (sock, events):
            return
        self._watched = sock, events
        if events:
            self._poller.watch(sock, events, self._ready)
        else:
            self._poller.forget(sock)

    def _forget(self) -> None:
        sock, self._watched = self._watched[0], (None, 0)
        if sock is not None:
            self._poller.forget(sock)

    def _ready(self, events: int) -> None:
        if events & READ and self.client is not None:
            self.client.read()
            self._user.after_read()
        client = self.client
        if client is not None and (client.unsent or client.paused or self._watched[1] != READ):
            self.flush()

    def _tick(self, client: Client) -> None:
        if client is self.client and self.up:
            client.tick()
            self._poller.call_later(self._tick_s, partial(self._tick, client))
            self.flush()

    def on_suback(self, mid: int, refused: Sequence[int]) -> None:
        """From the client."""
        self._user.on_subscribed(mid, "; ".join(map(reasons.words, refused)))

    def on_unsuback(self, mid: int) -> None:
        """From the client."""
        self._user.on_unsubscribed(mid)
