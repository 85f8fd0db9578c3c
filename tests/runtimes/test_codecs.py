from __future__ import annotations

import datetime
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fogline.runtimes.codecs import (
    PAYLOAD_LIMIT_BYTES,
    codec,
    decode_bytes,
    decode_json,
    decode_text,
    encode_bytes,
    encode_json,
    encode_text,
    shown,
)
from fogline.runtimes.errors import BadMessage
from fogline.runtimes.spec import SpecError

Point = namedtuple("Point", "x y")


@dataclass
class Reading:
    value: float


@pytest.mark.parametrize(
    ("record", "payload"),
    [
        ({"a": [1, 2.5, None, True, "ä"]}, '{"a":[1,2.5,null,true,"ä"]}'.encode()),
        ((1, (2, 3)), b"[1,[2,3]]"),
        (Point(1, 2), b"[1,2]"),
        ({"s": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)}, b'{"s":0.5,"i":3,"b":true}'),
        (np.array([[1, 2], [3, 4]]), b"[[1,2],[3,4]]"),
        (np.arange(6).reshape(2, 3)[:, ::2], b"[[0,2],[3,5]]"),
        (np.array(["a", "b"]), b'["a","b"]'),
        (None, b"null"),
        ("null", b'"null"'),
    ],
)
def test_values_become_plain_json(record: Any, payload: bytes) -> None:
    assert encode_json(record) == payload


@pytest.mark.parametrize(
    "record",
    [
        float("nan"),
        {"a": [1.0, {"b": float("inf")}]},
        (1, float("-inf")),
        np.array([1.0, np.nan]),
        {"a": np.float32("nan")},
        {"a": None, "b": float("nan")},
    ],
)
def test_a_number_that_is_not_finite_is_a_bad_message(record: Any) -> None:
    with pytest.raises(BadMessage, match="not finite"):
        encode_json(record)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({1, 2}, "type set"),
        ({"a": object()}, "type object"),
        (Reading(1.0), "type Reading"),
        (datetime.datetime.now(), "type datetime"),
        (b"bytes", "type bytes"),
        ({1: "a"}, "key must be str"),
        (2**70, "64-bit"),
        ("\ud800", "surrogates"),
    ],
)
def test_what_json_has_no_place_for_is_a_bad_message(record: Any, words: str) -> None:
    with pytest.raises(BadMessage, match=words):
        encode_json(record)


def test_a_payload_over_the_limit_is_a_bad_message_in_both_directions() -> None:
    record = "x" * PAYLOAD_LIMIT_BYTES
    with pytest.raises(BadMessage, match="limit"):
        encode_json(record)
    with pytest.raises(BadMessage, match="limit"):
        decode_json(b'"' + record.encode() + b'"')
    assert len(encode_text(record)) == PAYLOAD_LIMIT_BYTES


@pytest.mark.parametrize("payload", [b"", b"{", b"NaN", b"[1,]", b"\xff"])
def test_what_is_not_json_is_a_bad_message(payload: bytes) -> None:
    with pytest.raises(BadMessage, match="not JSON"):
        decode_json(payload)


def test_text_and_bytes() -> None:
    assert decode_text("ä".encode()) == "ä"
    assert encode_text("ä") == "ä".encode()
    assert decode_bytes(b"\xff") == b"\xff"
    assert encode_bytes(bytearray(b"\xff")) == b"\xff"
    with pytest.raises(BadMessage, match="UTF-8"):
        decode_text(b"\xff")
    with pytest.raises(BadMessage, match="takes a string, not int"):
        encode_text(1)
    with pytest.raises(BadMessage, match="takes bytes, not str"):
        encode_bytes("a")


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match="json, text, bytes"):
        codec("avro")


def test_a_long_payload_is_cut_for_people() -> None:
    assert shown(b"abcdef", 3) == "abc... (6 bytes)"
    assert shown(b"abc", 3) == "abc"
