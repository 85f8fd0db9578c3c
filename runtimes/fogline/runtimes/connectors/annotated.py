"""`props.metadata`: what a message says beside its payload, as a field of its record.

::

    {"cpu": 0.5}  ->  {"cpu": 0.5, "_meta": {"topic": "plant/oven/raw", "key": null,
                                             "time": "2026-01-31T12:00:00.123Z", "headers": {"unit": "K"}}}

The payload itself is rewritten, once, as it is read: whatever happens to the record afterwards, a dead letter and its
replay too, it holds the field. One of the same name that a record came with is replaced: a reader can rely on what
stands there. A payload that is no JSON object passes as it is, so that its stage says what is wrong with it.

The source under it fills in `Message.about` because it finds the option too. Where the option is not set, nothing of
this is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from fogline.runtimes.connectors.base import Connector, Sink, Source
from fogline.runtimes.connectors.envelopes import Wrapped
from fogline.runtimes.message import OWN_PREFIX, About, Carried, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec


def metadata(about: About, carried: Carried) -> dict[str, Any]:
    """What the field holds. Of headers that repeat a name the last one counts."""
    return {
        "topic": about.topic,
        "key": None if carried.key is None else carried.key.decode(errors="replace"),
        "time": _written(carried.time_ms) if carried.time_ms else None,
        "headers": {name: value for name, value in about.headers if not name.startswith(OWN_PREFIX)},
    }


def annotated(payload: bytes, name: str, found: dict[str, Any]) -> bytes:
    """The payload with this field, or as it is."""
    try:
        record = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload
    if not isinstance(record, dict):
        return payload
    if name in record:
        with contextlib.suppress(TypeError):  # nested too deep to be written: then the later of two counts
            return orjson.dumps(record | {name: found})
    return payload.rstrip()[:-1] + (b"," if record else b"") + orjson.dumps({name: found})[1:]


def _written(time_ms: int) -> str:
    """ISO 8601, in UTC, to the millisecond: it can be read, sorted as text, and parsed by everything."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


class AnnotatedSource(Wrapped, Source):
    """Takes messages, and writes into their payloads what comes with them."""

    def __init__(self, inner: Source, name: str) -> None:
        super().__init__(inner)
        self._source = inner
        self._name = name

    @property
    def lag(self) -> int | None:
        return self._source.lag

    def bind(self) -> None:
        self._source.bind()

    def take(self, max_messages: int, timeout_s: float) -> list[Message]:
        messages = self._source.take(max_messages, timeout_s)
        for message in messages:
            if message.about is not None:
                found = metadata(message.about, message.carried)
                message.payload = annotated(message.payload, self._name, found)
        return messages

    def ack(self, messages: Sequence[Message]) -> None:
        self._source.ack(messages)

    def stop_intake(self) -> None:
        self._source.stop_intake()

    def leave(self) -> bool:
        return self._source.leave()


class Annotated:
    """Another connector, whose sources do this."""

    def __init__(self, inner: Connector) -> None:
        self._inner = inner

    def source(self, endpoint: EndpointSpec, poller: Poller, window: int) -> Source:
        return AnnotatedSource(self._inner.source(endpoint, poller, window), endpoint.options["metadata"])

    def sink(self, endpoint: EndpointSpec, poller: Poller) -> Sink:
        return self._inner.sink(endpoint, poller)

    def check(self, endpoint: EndpointSpec) -> None:
        self._inner.check(endpoint)

    def release(self, endpoint: EndpointSpec, *, others: bool = False) -> int:
        return self._inner.release(endpoint, others=others)
