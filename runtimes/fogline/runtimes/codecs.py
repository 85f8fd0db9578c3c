"""Payload to record and back. A record is any JSON value, unless the queue's format says otherwise.

Leaving a stage, numpy values and tuples become plain JSON. Anything else, and a number that is not
finite, is a bad message: orjson writes NaN as `null` without a word, so a payload that holds `null` is
looked at again (only then: the check costs nothing where no null is).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson

from fogline.runtimes.errors import BadMessage, NotFinite
from fogline.runtimes.spec import SpecError

PAYLOAD_LIMIT_BYTES = 1024 * 1024
SHOWN_BYTES = 2048
ROW_SHOWN_BYTES = 80

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], bytes]


def decode_json(payload: bytes) -> Any:
    """Raises BadMessage when the payload is not JSON or too large."""
    _check_size(payload)
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"the message is not JSON: {error}") from None


def decode_row(payload: bytes) -> Any:
    """A csv row as its file's reader hands it on. Raises BadMessage when it is none or too large."""
    _check_size(payload)
    if not payload.startswith(b"{"):
        raise BadMessage(
            f"the line is not a row that fits the header of its csv file: {shown(payload, ROW_SHOWN_BYTES)}"
        )
    return decode_json(payload)


def decode_text(payload: bytes) -> str:
    """Raises BadMessage when the payload is not UTF-8 or too large."""
    _check_size(payload)
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise BadMessage(f"the message is not UTF-8 text: {error.reason} at byte {error.start}") from None


def decode_bytes(payload: bytes) -> bytes:
    """Raises BadMessage when the payload is too large."""
    _check_size(payload)
    return payload


def encode_json(record: Any) -> bytes:
    """Raises BadMessage when the record is not JSON, holds a number that is not finite, or is too large."""
    try:
        payload = orjson.dumps(record, default=_plain, option=_OPTIONS)
    except TypeError as error:
        raise BadMessage(f"the result is not JSON: {error.__cause__ or error}") from None
    if b"null" in payload:
        _check_finite(record)
    _check_size(payload)
    return payload


def encode_text(record: Any) -> bytes:
    """Raises BadMessage when the record is not a string or too large."""
    if not isinstance(record, str):
        raise BadMessage(f"a queue of format text takes a string, not {type(record).__name__}")
    try:
        payload = record.encode()
    except UnicodeEncodeError as error:
        raise BadMessage(f"the result is not UTF-8 text: {error.reason} at character {error.start}") from None
    _check_size(payload)
    return payload


def encode_bytes(record: Any) -> bytes:
    """Raises BadMessage when the record is not bytes or too large."""
    if not isinstance(record, bytes | bytearray):
        raise BadMessage(f"a queue of format bytes takes bytes, not {type(record).__name__}")
    _check_size(record)
    return bytes(record)


FORMATS: dict[str, tuple[Decode, Encode]] = {
    "json": (decode_json, encode_json),
    "text": (decode_text, encode_text),
    "bytes": (decode_bytes, encode_bytes),
    "csv": (decode_row, encode_json),
}


def codec(name: str) -> tuple[Decode, Encode]:
    """The pair for a queue's `format`. Raises SpecError for a format this release does not know."""
    if name not in FORMATS:
        raise SpecError(f"unknown format {name!r}; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def shown(payload: bytes, limit_bytes: int = SHOWN_BYTES) -> str:
    """A payload for people: decoded leniently, cut to size."""
    text = payload[:limit_bytes].decode(errors="replace")
    return f"{text}... ({len(payload)} bytes)" if len(payload) > limit_bytes else text


def _plain(value: Any) -> Any:
    """What orjson does not write by itself: named tuples and the numpy values it passes over."""
    if isinstance(value, tuple):
        return list(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        plain = value.tolist()
        if type(plain) is not type(value):
            return plain
    raise TypeError(f"it holds a value of type {type(value).__name__}; return numbers, strings, lists, objects")


def _check_finite(value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotFinite(f"the result holds a number that is not finite ({value})")
    elif isinstance(value, dict):
        for each in value.values():
            _check_finite(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_finite(each)
    elif type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        _check_finite(value.tolist())


def _check_size(payload: bytes | bytearray) -> None:
    if len(payload) > PAYLOAD_LIMIT_BYTES:
        raise BadMessage(f"the message has {len(payload)} bytes, the limit is {PAYLOAD_LIMIT_BYTES}")
