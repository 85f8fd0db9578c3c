"""What an ONNX file says of itself, read without a library: a protobuf of a few fields."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_GRAPH, _INITIALIZER, _INPUT, _VALUE_NAME, _TENSOR_NAME = 7, 5, 11, 1, 8
_VARINT, _EIGHT_BYTES, _PREFIXED, _FOUR_BYTES = 0, 1, 2, 5


def onnx_inputs(path: Path) -> tuple[str, ...]:
    """The names of the inputs that a caller must give, in order. Raises ValueError when it is no ONNX file."""
    with path.open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # its weights are not looked at
    for number, graph in _fields(whole):
        if number == _GRAPH:
            inputs = [_name(each, _VALUE_NAME) for key, each in _fields(graph) if key == _INPUT]
            given = {_name(each, _TENSOR_NAME) for key, each in _fields(graph) if key == _INITIALIZER}
            return tuple(name for name in inputs if name not in given)
    raise ValueError("it holds no graph")


def _name(message: memoryview, field: int) -> str:
    return next((bytes(each).decode() for key, each in _fields(message) if key == field), "")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and contents of every field that holds bytes; the others are passed over."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            _, place = _varint(message, place)
            continue
        if kind == _PREFIXED:
            size, place = _varint(message, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if place + size > len(message):
            raise ValueError("it is cut off")
        if kind == _PREFIXED:
            yield key >> 3, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    found = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        found |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return found, place
    raise ValueError("it is cut off")
