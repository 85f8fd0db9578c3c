"""What travels: a message as a source delivered it, and an item on its way through the segment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

ID_PROPERTY = "fogline-id"
"""Name under which a message's id travels in the broker's metadata."""
TIME_PROPERTY = "fogline-time"
"""The same for the time its origin entered: milliseconds since 1970, in decimal."""
TRACE_PROPERTY = "traceparent"
"""The same for the trace it belongs to, handed on as it came (W3C Trace Context, section 3.2)."""


class Carried(NamedTuple):
    """What every record that is made of a message takes along."""

    key: bytes | None = None
    """Kafka's: records of one key stay in order."""
    time_ms: int = 0
    """When the origin entered: as its writer or broker says, else when it was read. 0: not known."""
    traceparent: str = ""


NOTHING = Carried()


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
