"""Locks: what is one, what is refused, and on which nodes it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fogline.agent.core.locks import Wheel, parse, unfit
from fogline.wire.terms import ErrorKind, FoglineError

NUMPY: dict[str, Any] = {
    "file": "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "name": "numpy",
    "sha256": "a" * 64,
    "size": 123,
    "version": "2.4.6",
}


def lock(*wheels: dict[str, Any], **changes: Any) -> bytes:
    document = {"fogline-lock": 1, "target": "3.11-x86_64-glibc-2.36", "wheels": list(wheels)} | changes
    return json.dumps(document).encode()


def test_what_it_says() -> None:
    known = parse(lock(NUMPY))
    assert known.target == "3.11-x86_64-glibc-2.36"
    assert known.wheels == (Wheel(NUMPY["file"], "numpy", "a" * 64, 123, "2.4.6"),)
    assert known.wheels[0].requirement == f"numpy==2.4.6 --hash=sha256:{'a' * 64}"
    assert known.size_bytes == 123
    assert parse(lock()).wheels == ()


WRONG: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "no version": b"{}",
    "deep": b"[" * 100_000,
    "wheels that are none": lock(wheels=["numpy"]),
    "a file elsewhere": lock(NUMPY | {"file": "../numpy.whl"}),
    "a file that is an option": lock(NUMPY | {"file": "-numpy.whl"}),
    "a file that is no wheel": lock(NUMPY | {"file": "numpy-2.4.6.tar.gz"}),
    "a name with a line of its own": lock(NUMPY | {"name": "numpy\n--index-url http"}),
    "a version with a line of its own": lock(NUMPY | {"version": "2.4.6\n-e ."}),
    "a version that is an address": lock(NUMPY | {"version": "2 @ http://x"}),
    "a digest that is short": lock(NUMPY | {"sha256": "a" * 63}),
    "a digest that is a number": lock(NUMPY | {"sha256": 7}),
    "no size": lock({key: value for key, value in NUMPY.items() if key != "size"}),
    "a size below nothing": lock(NUMPY | {"size": -1}),
    "a size that is true": lock(NUMPY | {"size": True}),
    "the same package twice": lock(NUMPY, NUMPY),
    "too many": lock(*(NUMPY | {"name": f"n{index}"} for index in range(1001))),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(FoglineError, match="the lock of the environment is refused") as caught:
        parse(data)
    assert caught.value.kind is ErrorKind.CORRUPT


def test_a_newer_one_says_what_to_do() -> None:
    with pytest.raises(FoglineError, match="of format 2, this release reads 1: upgrade") as caught:
        parse(lock(**{"fogline-lock": 2}))
    assert caught.value.kind is ErrorKind.VERSION_MISMATCH


HERE = "3.11-x86_64-glibc-2.36"


@pytest.mark.parametrize("target", [HERE, "3.11-x86_64-glibc-2.28", "3.11-x86_64-glibc-2.9"])
def test_it_holds_here(target: str) -> None:
    assert unfit(target, HERE) == ""


@pytest.mark.parametrize(
    "target",
    ["3.12-x86_64-glibc-2.36", "3.11-aarch64-glibc-2.36", "3.11-x86_64-musl-1.2", "3.11-x86_64-glibc-2.37", "", "3.11"],
)
def test_it_does_not(target: str) -> None:
    assert unfit(target, HERE) == (
        f"its environment was locked for {target}, and this node is {HERE}: submit the pipeline again"
    )


def test_an_unknown_library_is_only_like_itself() -> None:
    assert unfit("3.11-x86_64-unknown", "3.11-x86_64-unknown") == ""
    assert unfit("3.11-x86_64-unknown", HERE)
