"""What a document may say of containers: where images go; never anything that would open one."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.parse import parse
from support.padl_files import a_document, with_value


def refusals(path: str, value: Any) -> list[tuple[str, str]]:
    document, problems = parse(with_value(a_document(), path, value))
    found = problems if document is None else [*problems, *unavailable(document)]
    return [(each.pointer, each.message) for each in found]


@pytest.mark.parametrize(
    "prefix", ["registry", "127.0.0.1:5000", "registry.plant.example/lines", "localhost:5000/a/b_c-d/e.f"]
)
def test_a_registry(prefix: str) -> None:
    assert refusals("registry", {"prefix": prefix}) == []
    made, _ = parse(with_value(a_document(), "registry", {"prefix": prefix, "credentials": {"secret": "login"}}))
    assert made is not None
    assert made.registry_secret == "login"


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ({}, "/registry", "prefix"),
        ({"prefix": "https://registry"}, "/registry/prefix", "must be HOST[:PORT][/PATH] in lower case"),
        ({"prefix": "registry/Lines"}, "/registry/prefix", "in lower case"),
        ({"prefix": "r/a", "credentials": "user:password"}, "/registry/credentials", "must be an object"),
        ({"prefix": "r/a", "credentials": {"secret": "../x"}}, "/registry/credentials/secret", "the name of a secret"),
        ({"prefix": "r/a", "insecure": True}, "/registry/insecure", "insecure"),
        ("registry/lines", "/registry", "must be an object"),
    ],
)
def test_what_is_no_registry(value: Any, pointer: str, words: str) -> None:
    ((where, message),) = refusals("registry", value)
    assert where.startswith(pointer)
    assert words in message


@pytest.mark.parametrize("place", ["", "pipeline/scale/", "pipeline/scale/resources/"])
@pytest.mark.parametrize(
    "key",
    ["privileged", "volumes", "mounts", "devices", "cap_add", "cap-add", "network", "user", "image", "security_opt"],
)
def test_no_wish_opens_a_container(place: str, key: str) -> None:
    ((pointer, message),) = refusals(f"{place}{key}", True)
    assert pointer == f"/{place}{key}"
    assert key in message
