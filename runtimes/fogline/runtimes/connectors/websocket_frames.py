"""What the two ends of an acknowledged link say to each other: the subprotocol `fogline.link.v1`.

::

    writer                                        reader
      HELLO {link, epoch, next}          -->
                                         <--      RESUME {from, credit}
      DATA number, id, carried, payload  -->
                                         <--      ACK {through, credit}  ...
      BYE                                -->

`link` is the writer's name, `epoch` one life of its process; numbers count up by one within an epoch, from 1. `next`
is the oldest one that is not acknowledged, so that a reader that remembers nothing knows where to begin. A reader
says RESUME when it is bound. The writer may have as many messages under way as the last `credit` says, and
CREDIT_BYTES of them. It keeps each until an ACK (or a later RESUME) covers it, and sends what is not covered again on
the next connection. No close of a connection, whatever its code, acknowledges anything.

DATA is a binary frame, the others are text frames of JSON, whose unknown keys are passed over. So is what a message
carries: nothing, or {"time": milliseconds, "trace": traceparent, "key": bytes as Latin-1}.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import orjson

from fogline.runtimes.codecs import PAYLOAD_LIMIT_BYTES
from fogline.runtimes.message import NOTHING, Carried, time_ms_of, trace_of

LINK = "fogline.link.v1"
FRAME_LIMIT_BYTES = PAYLOAD_LIMIT_BYTES + 64 * 1024
CREDIT_BYTES = 4 * 1024 * 1024
NAME_LIMIT_BYTES = 1024
"""Longest name of a link, an epoch or a message: they are kept, and come from outside."""
_HEAD = struct.Struct("!cQ?HH")
_CARRIED_LIMIT_BYTES = 16 * 1024
"""A key that is longer does not travel: a frame has to hold the largest record besides."""
_DATA = b"D"
_LARGEST = 2**63


class Malformed(ValueError):
    """A frame that is no part of the link."""


class Hello(NamedTuple):
    """The writer's first word."""

    link: str
    epoch: str
    next: int


class Resume(NamedTuple):
    """The reader wants everything from `start` on."""

    start: int
    credit: int


class Ack(NamedTuple):
    """Every message up to and with `through` is done with."""

    through: int
    credit: int


class Bye(NamedTuple):
    """The writer's epoch is over: nothing of it comes again."""


class Data(NamedTuple):
    """One message."""

    number: int
    redelivered: bool
    id: str
    carried: Carried
    payload: bytes


Frame = Hello | Resume | Ack | Bye | Data


def hello(link: str, epoch: str, next_: int) -> bytes:
    """HELLO, as text."""
    return orjson.dumps({"type": "hello", "link": link, "epoch": epoch, "next": next_})


def resume(start: int, credit: int) -> bytes:
    """RESUME, as text."""
    return orjson.dumps({"type": "resume", "from": start, "credit": credit})


def ack(through: int, credit: int) -> bytes:
    """ACK, as text."""
    return orjson.dumps({"type": "ack", "through": through, "credit": credit})


def bye() -> bytes:
    """BYE, as text."""
    return orjson.dumps({"type": "bye"})


def data(number: int, ident: str, payload: bytes, *, redelivered: bool, carried: Carried = NOTHING) -> bytes:
    """DATA, as binary. `redelivered`: it may have been delivered before."""
    name, along = ident.encode(), _written(carried)
    return b"".join((_HEAD.pack(_DATA, number, redelivered, len(name), len(along)), name, along, payload))


def parse(payload: bytes, *, text: bool) -> Frame:
    """Read a frame that came. Raises Malformed."""
    return _control(payload) if text else _read_data(payload)


def _read_data(frame: bytes) -> Data:
    if len(frame) < _HEAD.size:
        raise Malformed("a binary frame that is shorter than the head of a message")
    kind, number, redelivered, length, along = _HEAD.unpack_from(frame)
    named = _HEAD.size + length
    end = named + along
    if kind != _DATA or length > NAME_LIMIT_BYTES or end > len(frame):
        raise Malformed("a binary frame that is no message")
    try:
        return Data(number, redelivered, frame[_HEAD.size : named].decode(), _read(frame[named:end]), frame[end:])
    except UnicodeDecodeError:
        raise Malformed("a message whose id is not UTF-8") from None


def _written(carried: Carried) -> bytes:
    if carried == NOTHING:
        return b""
    found: dict[str, Any] = {"time": carried.time_ms, "trace": carried.traceparent}
    if carried.key is not None and len(carried.key) * 6 <= _CARRIED_LIMIT_BYTES:  # as JSON a byte takes six at most
        found["key"] = carried.key.decode("latin-1")
    return orjson.dumps(found)


def _read(along: bytes) -> Carried:
    if not along:
        return NOTHING
    try:
        found: Any = orjson.loads(along)
        key = found.get("key")
        return Carried(
            None if key is None else key.encode("latin-1"),
            time_ms_of(b"%d" % found.get("time", 0)),
            trace_of(found.get("trace", "").encode()),
        )
    except (ValueError, TypeError, AttributeError):
        raise Malformed("a message that carries what cannot be read") from None


def _control(text: bytes) -> Frame:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Malformed("a text frame that is not JSON") from None
    kind = found.get("type") if isinstance(found, dict) else None
    match kind:
        case "hello":
            return Hello(_name(found, "link"), _name(found, "epoch"), _number(found, "next", 1))
        case "resume":
            return Resume(_number(found, "from", 1), _number(found, "credit", 0))
        case "ack":
            return Ack(_number(found, "through", 0), _number(found, "credit", 0))
        case "bye":
            return Bye()
    raise Malformed("a text frame that is no part of the link")


def _name(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value or len(value) > NAME_LIMIT_BYTES:
        raise Malformed(f"a frame whose {key} is not a name")
    return value


def _number(found: dict[str, Any], key: str, least: int) -> int:
    value = found.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _LARGEST:
        raise Malformed(f"a frame whose {key} is not a number it can be")
    return value
