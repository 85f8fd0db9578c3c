"""The real package index: small wheels for another architecture. The one module that asks it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from fogline.coordinator.artifacts.lock import Lock
from fogline.coordinator.artifacts.pinning import Unresolvable, pins
from fogline.coordinator.artifacts.programs import pip_configuration
from fogline.coordinator.artifacts.targets import read_target
from fogline.coordinator.artifacts.wheels import download, path_of
from fogline.coordinator.core.needs import Need

pytestmark = pytest.mark.e2e

EDGE = read_target("3.11-aarch64-glibc-2.36")
ASKED = ("orjson>=3.9", "markupsafe", "six==1.16.0")


def needs(*lines: str) -> list[Need]:
    return [Need(line, "stage a", "a") for line in lines]


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Lock]]:
    """Pins for an edge node, and its lock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        pip_configuration.cache_clear()
        pinned = pins(needs(*ASKED), EDGE)
        yield pinned, download(pinned, EDGE, print)


def test_wheels_are_for_the_node_not_for_this_machine(locked: tuple[str, Lock]) -> None:
    pinned, lock = locked
    assert [wheel.name for wheel in lock.wheels] == ["markupsafe", "orjson", "six"]
    assert lock.wheels[2].version == "1.16.0"
    assert all(wheel.file.endswith(("_aarch64.whl", "-none-any.whl")) for wheel in lock.wheels)
    assert "cp311" in lock.wheels[0].file
    for wheel in lock.wheels:
        assert hashlib.sha256(path_of(wheel).read_bytes()).hexdigest() == wheel.sha256
        assert f"sha256:{wheel.sha256}" in pinned


def test_the_same_pins_give_the_same_lock(locked: tuple[str, Lock]) -> None:
    assert download(locked[0], EDGE, print).digest == locked[1].digest


def test_what_has_no_wheel_there_is_named_with_what_there_is() -> None:
    with pytest.raises(Unresolvable, match=r"no wheel of onnxruntime>=1\.20 for aarch64, glibc 2\.17") as why:
        pins(needs("onnxruntime>=1.20"), read_target("3.11-aarch64-glibc-2.17"))
    assert "manylinux_2_28_aarch64" in why.value.sentence or "manylinux_2_27_aarch64" in why.value.sentence


def test_a_package_that_nobody_published_is_named() -> None:
    with pytest.raises(Unresolvable, match="there is no package fogline-never-published-1 in the index"):
        pins(needs("fogline-never-published-1"), EDGE)
