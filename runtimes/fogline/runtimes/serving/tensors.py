"""Tensors as the Open Inference Protocol carries them: in JSON, or as binary data behind it, little-endian, row by row.

Values are plain Python ones in a flat list, as in the JSON of the stages; no numpy, which a chain of code has not.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from fogline.runtimes.serving.refusals import bad_request

BYTES = "BYTES"
_CODES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
DATATYPES = (*_CODES, BYTES)
_TYPES: dict[str, set[type]] = {"B": {str}, "F": {int, float}, "I": {int}, "U": {int}}
"""By the first letter of the datatype; `BOOL` apart."""
_WORDS = {"BOOL": "true or false", "B": "strings", "F": "numbers", "I": "whole numbers", "U": "whole numbers"}
_LENGTH = struct.Struct("<I")
SIZES = 32
"""Most dimensions, as in numpy before version 2."""


class Values(NamedTuple):
    """A whole tensor: `shape[0]` records."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    flat: Sequence[Any]

    def rows(self) -> Sequence[Any]:
        """One per record: a value, a list, a nested list."""
        rows: Sequence[Any] = self.flat
        for size in reversed(self.shape[1:]):
            rows = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
        return rows


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Values:
    """Nested or flat, as the protocol allows. Raises Refusal."""
    if not isinstance(data, list):
        raise bad_request(f"input {name!r}: data must be a list")
    flat: list[Any] = data
    while flat and type(flat[0]) is list:
        if not all(type(each) is list for each in flat):
            raise bad_request(f"input {name!r}: data is nested unevenly")
        flat = list(itertools.chain.from_iterable(flat))
    _check_count(name, shape, len(flat))
    if datatype[0] in "IU" and float in set(map(type, flat)):
        flat = [int(each) if type(each) is float and each.is_integer() else each for each in flat]
    _check_types(name, datatype, flat)
    return Values(name, datatype, shape, flat)


def from_binary(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Values:
    """Raises Refusal when the bytes are not just what shape and datatype need."""
    if datatype == BYTES:
        flat: Sequence[Any] = _strings(name, data)
        _check_count(name, shape, len(flat))
        return Values(name, datatype, shape, flat)
    count, code = math.prod(shape), _CODES[datatype]
    size = struct.calcsize(f"<{code}") * count
    if size != len(data):
        raise bad_request(
            f"input {name!r}: shape {list(shape)} of {datatype} takes {size} bytes, binary_data_size is {len(data)}"
        )
    flat = list(struct.unpack(f"<{count}{code}", data))
    if code in "efd":
        for place, value in enumerate(flat):
            if not math.isfinite(value):
                row = place // math.prod(shape[1:])
                raise bad_request(f"record {row}: input {name!r}: expected a number, got {value}")
    return Values(name, datatype, shape, flat)


def to_binary(values: Values) -> bytes:
    """The same for an answer."""
    if values.datatype == BYTES:
        encoded = [each.encode() for each in values.flat]
        return b"".join(itertools.chain.from_iterable((_LENGTH.pack(len(each)), each) for each in encoded))
    return struct.pack(f"<{len(values.flat)}{_CODES[values.datatype]}", *values.flat)


def described(name: str, rows: Sequence[Any], datatype: str = "") -> Values | None:
    """Answers, one per record, as a tensor; None when they do not make one. `datatype`: as the model declares it."""
    shape, flat = [len(rows)], list(rows)
    while flat and type(flat[0]) is list:
        size = len(flat[0])
        if not size or not all(type(each) is list and len(each) == size for each in flat):
            return None
        shape.append(size)
        flat = list(itertools.chain.from_iterable(flat))
    found = _datatype(set(map(type, flat)))
    if not found:
        return None
    return Values(name, datatype if _fits(found, datatype) else found, tuple(shape), flat)


def _fits(found: str, declared: str) -> bool:
    return declared[:2] in {"INT64": ("IN", "UI", "FP"), "FP64": ("FP",)}.get(found, (found[:2],))


def _datatype(types: set[type]) -> str:
    if types == {int}:
        return "INT64"
    if types and types <= {int, float}:
        return "FP64"
    return {bool: "BOOL", str: BYTES}.get(types.pop(), "") if len(types) == 1 else ""


def _strings(name: str, data: bytes) -> list[str]:
    flat, place = list[str](), 0
    while place < len(data):
        end = place + _LENGTH.size
        size = _LENGTH.unpack_from(data, place)[0] if end <= len(data) else 0
        if end + size > len(data) or end > len(data):
            raise bad_request(f"input {name!r}: its binary data ends within the string {len(flat)}")
        try:
            flat.append(data[end : end + size].decode())
        except UnicodeDecodeError:
            raise bad_request(f"input {name!r}: the string {len(flat)} is not UTF-8") from None
        place = end + size
    return flat


def _check_count(name: str, shape: tuple[int, ...], found: int) -> None:
    if math.prod(shape) != found:
        raise bad_request(f"input {name!r}: shape {list(shape)} has {math.prod(shape)} values, data has {found}")


def _check_types(name: str, datatype: str, flat: Sequence[Any]) -> None:
    kind = "BOOL" if datatype == "BOOL" else datatype[0]
    wanted = _TYPES.get(kind, {bool})
    if not set(map(type, flat)) <= wanted:
        place, value = next((place, each) for place, each in enumerate(flat) if type(each) not in wanted)
        raise bad_request(f"input {name!r}: expected {_WORDS[kind]} for {datatype}, got {_shown(value)} at {place}")
    if kind in "IU":
        _check_range(name, datatype, flat)


def _check_range(name: str, datatype: str, flat: Sequence[int]) -> None:
    try:
        struct.pack(f"<2{_CODES[datatype]}", min(flat), max(flat))
    except struct.error:
        raise bad_request(f"input {name!r}: a number that {datatype} cannot hold") from None


def _shown(value: Any) -> str:
    text = {None: "null", True: "true", False: "false"}.get(value, repr(value)) if value.__hash__ else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def shape_of(name: str, given: Any) -> tuple[int, ...]:
    """Of a request. Raises Refusal: a size of 0 would be records without content, as many as one likes."""
    fits = isinstance(given, list) and 0 < len(given) <= SIZES
    if not fits or not all(type(size) is int and 0 < size < 2**31 for size in given):
        raise bad_request(f"input {name!r}: shape must be a list of sizes, each at least 1, the first for the records")
    return tuple(given)
