"""What travels beside a payload over MQTT: user properties of version 5. On 3.1.1 all of it is lost."""

from __future__ import annotations

import functools

from fogline.runtimes.message import (
    ID_PROPERTY,
    TIME_PROPERTY,
    TRACE_PROPERTY,
    About,
    Carried,
    Item,
    id_of,
    just_read,
    time_ms_of,
    trace_of,
)
from fogline.runtimes.mqtt.decoder import Publish, user_properties, user_property
from fogline.runtimes.mqtt.packets import packed_property, user_property_mark

_ID_MARK, _TIME_MARK, _TRACE_MARK = map(user_property_mark, (ID_PROPERTY, TIME_PROPERTY, TRACE_PROPERTY))
_SAME = 64
"""Neighbours often carry the same, the millisecond too: then it is neither written nor read anew."""


def properties_of(item: Item) -> bytes:
    """The properties that an item is published with."""
    ident = item.id.encode()
    return _ID_MARK + len(ident).to_bytes(2, "big") + ident + _written(item.carried)


def carried_by(properties: bytes) -> tuple[str, Carried]:
    """The id of a message, empty when it has none, and what it carries; a time of its own it has always."""
    at = properties.find(_ID_MARK)
    if at < 0:
        ident, rest = "", properties
    else:
        start = at + len(_ID_MARK) + 2
        end = start + int.from_bytes(properties[start - 2 : start], "big")
        ident = id_of(properties[start:end])
        rest = properties if at else properties[end:]
    carried = _read(rest)
    return ident, carried if carried.time_ms else carried._replace(time_ms=just_read().time_ms)


@functools.lru_cache(_SAME)
def _written(carried: Carried) -> bytes:
    properties = b""
    if carried.time_ms:
        properties += packed_property(TIME_PROPERTY, str(carried.time_ms))
    if carried.traceparent:
        properties += packed_property(TRACE_PROPERTY, carried.traceparent)
    return properties


@functools.lru_cache(_SAME)
def _read(properties: bytes) -> Carried:
    time_ms = time_ms_of(user_property(properties, _TIME_MARK))
    return Carried(None, time_ms, trace_of(user_property(properties, _TRACE_MARK)))


def about(publish: Publish) -> About:
    """What a message says of itself; on 3.1.1 its topic alone."""
    return About(publish.topic, tuple(user_properties(publish.properties)))
