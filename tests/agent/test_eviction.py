"""The cap of the artifact cache: who goes first, and who never does."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogline.agent.core.eviction import Held, victims
from fogline.agent.host.artifacts import ArtifactCache, Needed
from fogline.agent.host.bundle import CODE
from fogline.wire.terms import ErrorKind, FoglineError


def held(name: str, size_bytes: int, used_at_s: float) -> Held:
    return Held(name, name, size_bytes, used_at_s)


OLD, MIDDLE, NEW = held("old", 10, 1.0), held("middle", 10, 2.0), held("new", 10, 3.0)


@pytest.mark.parametrize(
    ("cap_bytes", "needed", "gone"),
    [
        (30, set(), []),
        (29, set(), [OLD]),
        (20, set(), [OLD]),
        (10, set(), [OLD, MIDDLE]),
        (0, set(), [OLD, MIDDLE, NEW]),
        (20, {"old"}, [MIDDLE]),
        (0, {"old", "new"}, [MIDDLE]),
        (0, {"old", "middle", "new"}, []),
    ],
)
def test_the_least_recently_used_goes_first(cap_bytes: int, needed: set[str], gone: list[Held]) -> None:
    assert victims([NEW, OLD, MIDDLE], needed, cap_bytes) == gone


ONE = st.builds(held, st.sampled_from("abcdefgh"), st.integers(0, 100), st.floats(0, 1e9))
SOME = st.lists(ONE, unique_by=lambda each: each.name)


@given(SOME, st.sets(st.sampled_from("abcdefgh")), st.integers(0, 500))
def test_whatever_is_held(some: list[Held], needed: set[str], cap_bytes: int) -> None:
    going = victims(some, needed, cap_bytes)
    staying = [each for each in some if each not in going]
    assert not {each.digest for each in going} & needed
    if sum(each.size_bytes for each in staying) > cap_bytes:
        assert {each.digest for each in staying} <= needed
    youngest_gone_s = max((each.used_at_s for each in going), default=0.0)
    assert all(each.used_at_s >= youngest_gone_s for each in staying if each.digest not in needed)


class Cache:
    """A cache of 1000 bytes with a clock that is set by hand; its coordinator has whatever is asked for."""

    def __init__(self, folder: Path, cap_bytes: int = 1000) -> None:
        self.now_s = 1_000_000.0
        self.wanted: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cache = ArtifactCache(folder / "artifacts", self._fetch, cap_bytes, lambda: self.now_s)
        self.cache.needed = lambda: self.wanted

    async def _fetch(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        self.asked.append(digest)
        yield self.blobs[digest][offset:], len(self.blobs[digest])

    def get(self, blob: bytes, needed: Needed | None = None) -> str:
        digest = hashlib.sha256(blob).hexdigest()
        self.blobs[digest] = blob
        self.now_s += 1
        asyncio.run(self.cache.ensure(needed or Needed(digest), lambda _: None))
        return digest

    def names(self) -> set[str]:
        return {path.name for path in self.cache.folder.iterdir()}


def test_what_was_asked_for_the_longest_ago_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first, second = cache.get(b"1" * 400), cache.get(b"2" * 400)
    cache.get(b"1" * 400)
    third = cache.get(b"3" * 400)
    assert cache.names() == {first, third}
    assert cache.get(b"2" * 400) == second
    assert cache.asked == [first, second, third, second]
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"], "no trash"


def test_also_after_a_restart_of_the_agent(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first, second = cache.get(b"1" * 400), cache.get(b"2" * 400)
    cache.get(b"1" * 400)
    again = Cache(tmp_path)
    third = again.get(b"3" * 400)
    assert again.names() == {first, third}
    assert second not in again.names()


def test_what_is_needed_stays_whatever_the_cap(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = cache.get(b"1" * 900)
    cache.wanted = {first}
    second = cache.get(b"2" * 900)
    assert cache.names() == {first, second}, "what was just asked for stays too"
    third = cache.get(b"3" * 10)
    assert cache.names() == {first, third}


def test_bundles_and_halves_count_too(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.cache.folder.mkdir()
    half = cache.cache.folder / ("a" * 64 + ".partial")
    half.write_bytes(bytes(900))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("pkg/data.bin")
        member.size = 900
        archive.addfile(member, io.BytesIO(bytes(900)))
    blob = packed.getvalue()
    bundle = cache.get(blob, Needed(hashlib.sha256(blob).hexdigest(), CODE))
    assert cache.names() == {bundle}, "the half one had to make room"
    later = cache.get(b"1" * 200)
    assert cache.names() == {later}


def test_nothing_goes_while_nobody_knows_what_is_needed(tmp_path: Path) -> None:
    def unknown() -> set[str]:
        raise FoglineError(ErrorKind.FAILED, "spec version 9 is newer than 1")

    cache = Cache(tmp_path, cap_bytes=1)
    cache.cache.needed = unknown
    assert {cache.get(b"1"), cache.get(b"2")} == cache.names()
