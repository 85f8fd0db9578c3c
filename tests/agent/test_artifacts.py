"""The artifact cache: what arrives is verified, what broke off goes on where it stopped."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.agent.host.artifacts import ArtifactCache, Needed, needed_by
from fogline.agent.host.bundle import CODE, MODEL, Limits
from fogline.wire.terms import ErrorKind, FoglineError
from support.agent_builders import a_spec, until

BLOB = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(BLOB).hexdigest()
PIECE = 64 * 1024


class Source:
    """A coordinator's artifacts, with trouble by the call."""

    def __init__(self, blob: bytes = BLOB, *, breaks_after: list[int] | None = None) -> None:
        self.blob = blob
        self.offsets: list[int] = []
        self._breaks_after = breaks_after or []

    async def fetch(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        self.offsets.append(offset)
        pieces = self._breaks_after.pop(0) if self._breaks_after else len(self.blob)
        for start in range(offset, len(self.blob), PIECE):
            if not pieces:
                raise FoglineError(ErrorKind.UNREACHABLE, "gone")
            pieces -= 1
            await asyncio.sleep(0)
            yield self.blob[start : start + PIECE], len(self.blob)


def silent(_: str) -> None:
    return None


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fogline.agent.host.artifacts._AGAIN_AFTER_S", 0.0)


def ensure(cache: ArtifactCache, digest: str = DIGEST, limits: Limits | None = None) -> Path:
    return asyncio.run(cache.ensure(Needed(digest, limits), silent))


def test_what_gets_its_final_name_while_the_cache_is_measured_is_passed_over(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "artifacts", Source().fetch)
    cache.folder.mkdir()
    (cache.folder / f"{'0' * 64}.partial").symlink_to("gone")  # as it looks to who has listed it and asks then
    assert ensure(cache).read_bytes() == BLOB


def test_a_model_becomes_a_read_only_file(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "artifacts", Source().fetch)
    path = ensure(cache)
    assert path == tmp_path / "artifacts" / DIGEST
    assert path.read_bytes() == BLOB
    assert path.stat().st_mode & 0o222 == 0
    assert list(path.parent.iterdir()) == [path], "nothing else is left"


def test_what_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    source = Source()
    cache = ArtifactCache(tmp_path / "artifacts", source.fetch)
    ensure(cache)
    ensure(ArtifactCache(tmp_path / "artifacts", source.fetch))
    assert source.offsets == [0]


def test_a_fetch_that_broke_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = Source(breaks_after=[1, 0, 2])
    assert ensure(ArtifactCache(tmp_path / "artifacts", source.fetch)).read_bytes() == BLOB
    assert source.offsets == [0, PIECE, PIECE, 3 * PIECE]


def test_also_over_a_restart_of_the_agent(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / f"{DIGEST}.partial").write_bytes(BLOB[:100_000])
    source = Source()
    assert ensure(ArtifactCache(folder, source.fetch)).read_bytes() == BLOB
    assert source.offsets == [100_000]


def test_a_wrong_beginning_is_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / f"{DIGEST}.partial").write_bytes(b"x" * 100_000)
    source = Source()
    assert ensure(ArtifactCache(folder, source.fetch)).read_bytes() == BLOB
    assert source.offsets == [100_000, 0]


def test_a_tampered_blob_is_never_used(tmp_path: Path) -> None:
    tampered = BLOB[:-1] + b"!"
    source = Source(tampered)
    with pytest.raises(FoglineError, match="is not what its digest says") as caught:
        ensure(ArtifactCache(tmp_path / "artifacts", source.fetch))
    assert caught.value.kind is ErrorKind.CORRUPT
    assert list((tmp_path / "artifacts").iterdir()) == []
    assert source.offsets == [0, 0]


def test_a_refusal_is_passed_on(tmp_path: Path) -> None:
    async def unknown(digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        raise FoglineError(ErrorKind.NOT_FOUND, "no such artifact")
        yield b"", 0

    with pytest.raises(FoglineError, match="no such artifact"):
        ensure(ArtifactCache(tmp_path / "artifacts", unknown))


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "A" * 64, DIGEST + "0", DIGEST[:-1] + "/"])
def test_a_digest_that_is_none_is_refused(tmp_path: Path, digest: str) -> None:
    with pytest.raises(FoglineError, match="is not a SHA-256 digest"):
        ensure(ArtifactCache(tmp_path / "artifacts", Source().fetch), digest)


def test_copies_that_need_the_same_one_share_the_fetch(tmp_path: Path) -> None:
    source = Source()
    cache = ArtifactCache(tmp_path / "artifacts", source.fetch)

    async def both() -> None:
        needed = Needed(DIGEST)
        given_up = asyncio.create_task(cache.ensure(needed, silent))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.ensure(needed, silent))
        third = asyncio.create_task(cache.ensure(needed, silent))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await second == await third

    asyncio.run(both())
    assert len(source.offsets) <= 2, "the one that was cancelled, and one for the other two"


def test_a_bundle_becomes_a_folder(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("pkg/main.py")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"x = 1"))
    blob = packed.getvalue()
    digest = hashlib.sha256(blob).hexdigest()
    path = ensure(ArtifactCache(tmp_path / "artifacts", Source(blob).fetch), digest, CODE)
    assert (path / "pkg" / "main.py").read_text() == "x = 1"
    assert list(path.parent.iterdir()) == [path]


def test_one_that_is_given_up_while_it_is_unpacked_does_not_meet_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, goes_on = 0, 0, threading.Event()

    def slowly(archive: Path, target: Path, limits: Limits) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        goes_on.wait(20)
        at_once -= 1
        target.mkdir()

    monkeypatch.setattr("fogline.agent.host.artifacts.unpack", slowly)
    cache = ArtifactCache(tmp_path / "artifacts", Source().fetch)

    async def both() -> None:
        given_up = asyncio.create_task(cache.ensure(Needed(DIGEST, CODE), silent))
        await until(lambda: most, "it is being unpacked")
        given_up.cancel()
        second = asyncio.create_task(cache.ensure(Needed(DIGEST, CODE), silent))
        asyncio.get_running_loop().call_later(0.1, goes_on.set)
        assert await second == tmp_path / "artifacts" / DIGEST
        assert given_up.cancelled()

    asyncio.run(both())
    assert most == 1


def test_progress_is_told_in_steps(tmp_path: Path) -> None:
    told: list[str] = []
    cache = ArtifactCache(tmp_path / "artifacts", Source(breaks_after=[1]).fetch)
    asyncio.run(cache.ensure(Needed(DIGEST), told.append))
    assert f"fetching {DIGEST[:8]} 25 %" in told
    assert f"fetching {DIGEST[:8]}: gone" in told
    assert f"fetching {DIGEST[:8]} 100 %" in told


def test_what_a_spec_needs() -> None:
    spec = a_spec(artifacts={"a" * 64: "code", "b" * 64: "onnx"})
    assert needed_by(spec) == [Needed("a" * 64, CODE), Needed("b" * 64)]
    folder = replace(spec, stages=(replace(spec.stages[1], bundled=True),))
    assert needed_by(folder) == [Needed("b" * 64, MODEL)]
    assert needed_by(a_spec()) == []
