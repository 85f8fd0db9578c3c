"""The connector contract. These docstrings are the specification; `tests/contract` runs it over all.

What holds for every method unless it says otherwise:

- It is called from one thread, the pump's, and does its I/O there, holding the poller's lock. While
  user code runs, the keep-alive thread may drive the same sockets; a connector that only touches its
  state inside poller callbacks and under the lock needs no lock of its own.
- It waits only as long as its `timeout_s` says, and then inside `Poller.wait`, so that one wait sees
  input and confirmations alike. A client library without a socket of its own (Kafka) asks for turns
  with `Poller.call_later` instead.
- After a successful `open` the connector mends its own connection, for ever, with a back-off of 0.2 s
  up to 5 s and jitter. Meanwhile `connected` is False, `error` says why, and calls go on working: a
  source brings nothing, a sink keeps what it was given.
- When it gives up for good (another copy took the reader over) `failure` is set and stays, and ends the process.

In what order the calls come, and how often::

    source   open (again after NotConnected) -> bind, once the writers' readers are bound -> take, in every turn of the
             pump with room for a message, at least twice a second -> ack, once for each message, in arrival order,
             behind its receipts -> stop_intake or leave, once -> ack ... -> close
    sink     open -> send, once for each batch that has something for it; again after BackOff -> close

The four signals: NotConnected (from open, bind, check, release: wait and try again, it mends itself), EndOfInput (from
take: all that ever came is taken and the source has no more), BackOff (from take or send: nothing was done, ask again
after so long), and BadMessage (from a codec, never from a connector: one record cannot be used, the others can).

What a link guarantees:

- **At least once.** A message stays where it came from until its ack, and an item with its sink until it is confirmed;
  whatever dies in between comes again. Less where the connector says so (MQTT with QoS 0, foreign peers of WebSocket),
  more where Kafka's transactions are asked for.
- **In order**, as one writer sent it through one partition or connection, as long as nothing fails. What comes again
  comes in its old order, behind what has overtaken it.
- **Bounded.** At most the window is out of a source, twice that is read from its socket; a sink holds what the pump's
  window let through. Nothing else waits in the process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from fogline.runtimes.codecs import Encode, codec
from fogline.runtimes.errors import RuntimeFault
from fogline.runtimes.message import Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec


class Receipt:
    """What a sink owes for one `send`: `left` confirmations. It goes down and never up."""

    __slots__ = ("left", "owed", "settled", "unrouted")

    def __init__(self, owed: int) -> None:
        self.left = self.owed = owed
        self.unrouted = 0
        """How many of the confirmed ones the broker had no reader for."""
        self.settled = False
        """Set by the pump just before it acknowledges what the items were made of."""

    @property
    def done(self) -> bool:
        """Everything is durably with the broker, as far as its acknowledgement means that."""
        return self.left == 0


class Endpoint(ABC):
    """What sources and sinks have in common."""

    endpoint: EndpointSpec
    listens = False
    """Others dial it, perhaps one of this very process: it is opened before those that dial."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Ready for use now: connected and, for a bound source, subscribed."""

    @property
    @abstractmethod
    def error(self) -> str:
        """The last words about a missing connection; empty while all is well."""

    @property
    @abstractmethod
    def failure(self) -> RuntimeFault | None:
        """Set when the connector gave up for good; ends the process."""

    @abstractmethod
    def open(self) -> None:
        """Connect, once; binds nothing. May be called again after it raised.

        Raises NotConnected with the broker's own words and address.
        """

    @abstractmethod
    def close(self) -> None:
        """Say goodbye within a second or so. What is not acknowledged stays with the broker."""


class Source(Endpoint):
    """Messages in. At least once: one that is not acknowledged comes again, here or elsewhere.

    A message carries what came with it, and else the time at which it was read (`message.just_read`). Where the options
    of its queue have `metadata`, it also says its topic and headers (`Message.about`).
    """

    @property
    def lag(self) -> int | None:
        """How many records the broker has for this reader that are not acknowledged yet; None: it does not tell.
        Called from any thread."""
        return None

    @abstractmethod
    def bind(self) -> None:
        """Subscribe and return when the broker confirmed it. From here on nothing may be missed: the
        subscription survives lost connections, and is made again at each connect. Idempotent.

        It returns early, `connected` still False, when so many kept messages come first that they must
        be taken before the confirmation can be read.

        Raises NotConnected when the broker refuses it or does not answer.
        """

    @abstractmethod
    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        """Up to `max_messages` in arrival order. Waits up to `timeout_s`, once, only when there is
        nothing; an empty list is ordinary and may come early.

        Raises EndOfInput when nothing will ever come again, BackOff to be left alone for a while.
        """

    @abstractmethod
    def ack(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages of this source, in arrival order. One that came on an earlier
        connection is passed over in silence: the broker brings it again."""

    @abstractmethod
    def stop_intake(self) -> None:
        """Bring nothing more, but go on acknowledging. What was received and not taken stays with
        the broker. The subscription stays: it collects for the successor."""

    def leave(self) -> bool:
        """Nobody will read under this name again, and others take over what it would have got: bring to an end
        what is kept for it alone. True: `take` goes on, and raises EndOfInput when that is all acknowledged. False:
        nothing is kept for it, and this was `stop_intake`."""
        self.stop_intake()
        return False


class Sink(Endpoint):
    """Messages out, in order as far as the broker confirms them in order."""

    @property
    def encoder(self) -> Encode:
        """Makes a payload of a result. It raises BadMessage for one that this queue does not take."""
        return codec(str(self.endpoint.options.get("format", "json")))[1]

    @abstractmethod
    def send(self, items: Sequence[Item]) -> Receipt:
        """Take all items over and begin to send them; never waits. The receipt counts down inside
        later waits. A failed publish is sent again (0.2 s up to 5 s), before what came after it.

        Raises BackOff when nothing was taken over.
        """


class Connector(Protocol):
    """One entry of the registry: makes both ends, and what the command line needs besides."""

    def source(self, endpoint: EndpointSpec, poller: Poller, window: int) -> Source:
        """A reader that asks the broker for at most `window` unacknowledged messages at once."""
        ...

    def sink(self, endpoint: EndpointSpec, poller: Poller) -> Sink:
        """A writer under the endpoint's client id."""
        ...

    def check(self, endpoint: EndpointSpec) -> None:
        """Reach the broker under a name of its own, leaving nothing behind. Raises NotConnected."""
        ...

    def release(self, endpoint: EndpointSpec, *, others: bool = False) -> int:
        """End the reader's session: what it had collected is gone. `others`: copies of its stage go on reading, so
        what they have in common stays. Returns how many messages are gone, at least. Raises NotConnected."""
        ...
