"""Kinds of nodes, and the tags of wheels that run there."""

from __future__ import annotations

import pytest
from packaging.tags import sys_tags

from fogline.coordinator.artifacts.targets import read_target, this_machine
from fogline.wire.terms import FoglineError


@pytest.mark.parametrize(
    ("text", "uv", "newest", "oldest"),
    [
        ("3.11-x86_64-glibc-2.36", "x86_64-manylinux_2_36", "manylinux_2_36_x86_64", "manylinux1_x86_64"),
        ("3.12-aarch64-glibc-2.36", "aarch64-manylinux_2_36", "manylinux_2_36_aarch64", "manylinux2014_aarch64"),
        ("3.11-x86_64-glibc-2.30", "x86_64-manylinux_2_28", "manylinux_2_30_x86_64", "manylinux1_x86_64"),
        ("3.11-x86_64-glibc-2.77", "x86_64-manylinux_2_40", "manylinux_2_77_x86_64", "manylinux1_x86_64"),
        ("3.11-aarch64-glibc-2.17", "aarch64-manylinux_2_17", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        ("3.11-x86_64-musl-1.2", "x86_64-unknown-linux-musl", "musllinux_1_2_x86_64", "musllinux_1_1_x86_64"),
    ],
)
def test_wheels_are_those_of_the_node_and_older(text: str, uv: str, newest: str, oldest: str) -> None:
    target = read_target(text)
    assert target.uv_platform == uv
    assert (target.pip_platforms[0], target.pip_platforms[-2]) == (newest, oldest)
    assert target.pip_platforms[-1] == f"linux_{target.architecture}"


def test_every_tag_of_this_machine_is_listed() -> None:
    platforms = {tag.platform for tag in sys_tags()} - {"any"}
    assert platforms <= set(read_target(this_machine()).pip_platforms)


@pytest.mark.parametrize(
    "text",
    ["3.11-armv7l-glibc-2.36", "3.11-x86_64-glibc-2.12", "3.11-x86_64-unknown", "-x86_64-glibc-2.36", "nonsense"],
)
def test_a_kind_without_wheels_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(FoglineError, match="--environments own") as refused:
        read_target(text)
    assert text in refused.value.sentence
