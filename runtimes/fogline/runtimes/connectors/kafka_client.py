"""What the connector needs of a Kafka client library, and what such a client tells it.

Two libraries do it: confluent-kafka (librdkafka, on the hot path) and kafka-python, where that has no wheel. None of
their calls waits but for `open` and `close`; what they have to say is said inside `fetch` and `serve`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fogline.runtimes.message import (
    ID_PROPERTY,
    TIME_PROPERTY,
    TRACE_PROPERTY,
    About,
    Carried,
    Item,
    id_of,
    time_ms_of,
    trace_of,
)
from fogline.runtimes.tls import Tls

OPEN_TIMEOUT_S = 5.0
SESSION_TIMEOUT_MS = 15_000
"""After how long the partitions of a member that is gone without a word go to the others."""
MAX_MESSAGE_BYTES = (1024 + 64) * 1024

Headers = Sequence[tuple[str, bytes | None]]
"""Names and values of one record, in order."""
_OURS = {ID_PROPERTY, TIME_PROPERTY, TRACE_PROPERTY}


class Fetched(NamedTuple):
    """One record of a partition."""

    topic: str
    partition: int
    offset: int
    payload: bytes
    key: bytes | None
    time_ms: int
    headers: Headers


class Place(NamedTuple):
    """How far a group is with a partition."""

    offset: int
    """To go on from; -1: nothing is committed, or it is not known."""
    seen: int = -1
    """The offset after the highest that had been fetched by then: what comes below it comes again."""

    @property
    def metadata(self) -> str:
        """How it is kept with the committed offset."""
        return f"seen {self.seen}"


NOWHERE = Place(-1)


def place_of(offset: int, metadata: str | None) -> Place:
    """What `metadata` says beside a committed offset, whoever committed it."""
    word, _, number = (metadata or "").partition(" ")
    return Place(offset, int(number) if word == "seen" and number.isdigit() else -1) if offset >= 0 else NOWHERE


@dataclass(frozen=True)
class Wish:
    """How to reach the brokers, and as whom."""

    server: str
    """HOST:PORT, or several with commas."""
    topic: str
    client_id: str
    group: str = ""
    """Of a reader."""
    latest: bool = False
    """A group without offsets begins at the end, not at the beginning."""
    create: bool = True
    partitions: int = 1
    """Of a topic that is created."""
    login: Mapping[str, Any] = field(default_factory=dict)
    """`username`, `password` and `mechanism`, as far as given."""
    tls: Tls | None = None


class ReaderUser(Protocol):
    """Called inside `Reader.fetch`."""

    def on_assigned(self, partitions: Mapping[int, Place]) -> None:
        """Partition -> what is committed: it is read from there."""
        ...

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """These go to another member when the call returns: what is done is committed here."""
        ...

    def on_lost(self, partitions: Sequence[int]) -> None:
        """These have gone already: nothing of them can be committed."""
        ...

    def on_fenced(self) -> None:
        """Another client reads under this name; nothing comes any more."""
        ...


class Reader(Protocol):
    """One member of a consumer group."""

    @property
    def error(self) -> str:
        """Empty while it is connected."""
        ...

    @property
    def lag(self) -> int | None:
        """How many records of its partitions are not committed yet; None: not known."""
        ...

    def open(self) -> None:
        """Reach a broker and find the topic, or create it. Raises NotConnected."""
        ...

    def subscribe(self) -> None: ...

    def fetch(self, limit: int) -> list[Fetched]:
        """Up to `limit` records that are here already; 0: only serve."""
        ...

    def commit(self, places: Mapping[int, Place]) -> None:
        """Partition -> how far it is done. The latest wins; a failure is tried again."""
        ...

    def commit_now(self, places: Mapping[int, Place], timeout_s: float) -> None:
        """The same, and wait for it; what cannot be committed comes again."""
        ...

    def pause(self, paused: bool) -> None:
        """Bring nothing more, and stay a member."""
        ...

    def lowest(self, partition: int) -> int:
        """The first offset that the broker still has."""
        ...

    def close(self) -> None: ...


class Delivery(Protocol):
    """A record on its way, which is told what became of it."""

    item: Item

    def __call__(self, error: Any, _message: Any, /) -> None: ...


class Writer(Protocol):
    """An idempotent producer."""

    @property
    def error(self) -> str:
        """Empty while it is connected."""
        ...

    @property
    def fatal(self) -> str:
        """Not empty: it is of no use any more; close it, and make another one."""
        ...

    def open(self) -> None:
        """Reach a broker and find the topic, or create it. Raises NotConnected."""
        ...

    def send(self, waiting: deque[Delivery]) -> None:
        """Begin to send records, the first first, and take out of `waiting` what is on its way; what there is no
        room for now stays. Each is called once, inside this or a later call: `record(error, _)`, with None when the
        broker has it. Stops behind one that fails at once."""
        ...

    def serve(self) -> None:
        """Tell what was delivered."""
        ...

    def close(self, timeout_s: float) -> None:
        """Wait so long for what is open; the rest is reported as failed."""
        ...


class Client(Protocol):
    """A library."""

    def reader(self, wish: Wish, user: ReaderUser) -> Reader: ...

    def writer(self, wish: Wish) -> Writer: ...

    def visit(self, wish: Wish) -> None:
        """Reach a broker and find the topic, or that it may be created. Raises NotConnected."""
        ...


def no_topic(wish: Wish) -> str:
    """The sentence for a topic that is not there and must not be made."""
    return 'it does not exist, and "create": false keeps it from being made'


def headers_of(item: Item) -> list[tuple[str, str | bytes | None]]:
    """What travels beside the payload."""
    carried = item.carried
    headers: list[tuple[str, str | bytes | None]] = [(ID_PROPERTY, item.id.encode())]
    if carried.time_ms:
        headers.append((TIME_PROPERTY, b"%d" % carried.time_ms))
    if carried.traceparent:
        headers.append((TRACE_PROPERTY, carried.traceparent.encode()))
    return headers


def carried_by(fetched: Fetched) -> tuple[str, Carried]:
    """The id of a record, and what it carries: from its headers, else from its place and time."""
    found = {name: value or b"" for name, value in fetched.headers if name in _OURS}
    return (
        id_of(found.get(ID_PROPERTY, b"")) or f"{fetched.topic}/{fetched.partition}/{fetched.offset}",
        Carried(
            fetched.key,
            time_ms_of(found.get(TIME_PROPERTY, b"")) or fetched.time_ms,
            trace_of(found.get(TRACE_PROPERTY, b"")),
        ),
    )


def about(fetched: Fetched) -> About:
    """What a record says of itself; a header without a value has an empty one."""
    headers = ((name, (value or b"").decode(errors="replace")) for name, value in fetched.headers)
    return About(fetched.topic, tuple(headers))
