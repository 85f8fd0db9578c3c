"""What travels: a message as a source delivered it, and an item on its way through the segment."""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

ID_PROPERTY = "fogline-id"
"""Name under which a message's id travels in the broker's metadata."""
TIME_PROPERTY = "fogline-time"
"""The same for the time its origin entered: milliseconds since 1970, in decimal."""
TRACE_PROPERTY = "traceparent"
"""The same for the trace it belongs to, handed on as it came (W3C Trace Context, section 3.2)."""

OWN_PREFIX = "fogline-"
"""How the names begin that nobody but Fogline gives."""
LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, as far as dates can be written."""
_LONGEST_ID_BYTES = 32 * 1024
_LONGEST_TRACE_BYTES = 512
"""Today's have 55; the recommendation says that later ones may be longer."""


class Carried(NamedTuple):
    """What every record that is made of a message takes along."""

    key: bytes | None = None
    """Kafka's: records of one key stay in order."""
    time_ms: int = 0
    """When the origin entered: as its writer or broker says, else when it was read. 0: not known."""
    traceparent: str = ""


NOTHING = Carried()


class About(NamedTuple):
    """What a record says beside its payload, for a stage that asks for it (`props.metadata`)."""

    topic: str
    """The one it came by, where its queue names many."""
    headers: tuple[tuple[str, str], ...]
    """Names and values in order, as they came, Fogline's own among them."""


@dataclass(slots=True)
class Message:
    """One input message. It belongs to the connection that brought it."""

    payload: bytes
    id: str
    connection: int
    """Number of the connection it came on: an acknowledgement is good on that connection only."""
    redelivered: bool
    handle: Any
    """What the source needs to acknowledge it; nobody else looks inside. None: needs none."""
    arrived_at: float
    """`time.monotonic()` when it was read from the socket."""
    carried: Carried = NOTHING
    about: About | None = None
    """Only where the options of its queue have `metadata`."""


class Item(NamedTuple):
    """One encoded record. Inside the segment it is bytes too, so that a stage cannot tell a neighbour in
    its own process from one behind a queue, and a retry always starts from a fresh copy."""

    origin: int
    """Place of the input message in its batch."""
    id: str
    payload: bytes
    carried: Carried = NOTHING


def content_id(topic: str, payload: bytes) -> str:
    """The id of a foreign message: it names content, not an occurrence; never a key to deduplicate by."""
    return hashlib.blake2b(topic.encode() + b"\0" + payload, digest_size=32).hexdigest()


def just_read() -> Carried:
    """What a message carries that says nothing of itself: the time at which Fogline has it."""
    return _since(int(time.time() * 1000))


@functools.lru_cache(1)
def _since(time_ms: int) -> Carried:
    """Many come within a millisecond."""
    return Carried(None, time_ms)


def time_ms_of(digits: bytes) -> int:
    """A time as it was carried; 0 for anything that is none, whoever wrote it."""
    time_ms = int(digits) if len(digits) <= len(str(LATEST_MS)) and digits.isdigit() else 0
    return time_ms if time_ms <= LATEST_MS else 0


def trace_of(written: bytes) -> str:
    """A traceparent as it was carried; empty for anything that cannot be one, and might not go on everywhere."""
    trace = written.decode(errors="replace")
    return trace if len(written) <= _LONGEST_TRACE_BYTES and trace.isascii() and trace.isprintable() else ""


def id_of(written: bytes) -> str:
    """An id as it was carried; empty for one that leaves no room for what stages add to it, and for no text."""
    ident = written.decode(errors="replace")
    return ident if len(written) <= _LONGEST_ID_BYTES and ident.isprintable() else ""
