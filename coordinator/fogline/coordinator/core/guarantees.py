"""What each kind of wire promises, in the words that `coord plan` prints. Pure."""

from __future__ import annotations

from fogline.coordinator.core.exactly_once import EXACTLY_ONCE
from fogline.coordinator.padl.files import FILE
from fogline.coordinator.padl.listening import WEBSOCKET, listening_side
from fogline.coordinator.padl.model import Queue

QUEUE_GUARANTEE = "at least once, as long as the broker keeps what it acknowledged"
AT_MOST_ONCE = "at most once: with QoS 0 the broker neither keeps nor confirms a record"
EXACTLY_ONCE_GUARANTEE = "exactly once, for readers that read committed records alone (read_committed)"
READ_GUARANTEE = "at least once: the node keeps how far it is acknowledged; the end of all files ends the segment"
WRITTEN_GUARANTEE = "at least once: confirmed when it is on the node's disk"
MEMORY_GUARANTEE = "at least once: the segment's input is acknowledged after its output"
HOP_GUARANTEE = "answered or refused: the caller keeps the record"
LINK_GUARANTEE = (
    "at least once, by an acknowledged link without a broker: the writer keeps what its reader has not done with, "
    "and waits while that is away"
)
FOREIGN_WRITER = (
    "weaker: a foreign writer gets no acknowledgement, so what has arrived and is not processed when the stage dies "
    "is lost"
)
FOREIGN_READER = (
    "weaker: a foreign reader acknowledges nothing: a record counts as delivered once the socket has taken it, and "
    "is lost if the reader then goes without having read it"
)
NOBODY_THERE = "; with no reader connected a record is gone, and counted as unrouted"


def guarantee(queue: Queue, *, written: bool, read: bool) -> str:
    """Of a declared queue that stages of this document write, read, or both."""
    if queue.connector == FILE:
        return READ_GUARANTEE if read else WRITTEN_GUARANTEE
    if queue.connector == "mqtt" and queue.props.get("qos") == 0:
        return AT_MOST_ONCE
    if queue.connector != WEBSOCKET:
        return EXACTLY_ONCE_GUARANTEE if queue.guarantee == EXACTLY_ONCE else QUEUE_GUARANTEE
    if written and read:
        return LINK_GUARANTEE
    if read:
        return FOREIGN_WRITER
    listening = listening_side(queue, read=read, written=written)
    return FOREIGN_READER + (NOBODY_THERE if listening else "")
