"""The artifact cache: blobs by digest, fetched in resumable pieces, verified before anything uses them.

::

    artifacts/<digest>           a file (read-only): a model, a lock, a wheel; or the folder of an unpacked bundle
              <digest>.partial   what has arrived so far

When they are too many, those go that were not asked for the longest; never what a wish of the node needs. A file's
time of change says when it was asked for last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.agent.core.eviction import Held, victims
from fogline.agent.host.bundle import CODE, MODEL, Limits, unpack
from fogline.agent.host.leftovers import DIGEST_LENGTH, destroy, size_bytes, take_away
from fogline.agent.host.workspace import sync_folder
from fogline.runtimes.spec import SegmentSpec, StageSpec
from fogline.wire.terms import ErrorKind, FoglineError

log = logging.getLogger(__name__)

Fetch = Callable[[str, int], AsyncIterator[tuple[bytes, int]]]
"""(digest, offset) -> pieces of the blob from there on, each with the blob's size in bytes."""

Progress = Callable[[str], None]

CAP_BYTES = 4 * 1024**3
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PASSING = {ErrorKind.UNREACHABLE, ErrorKind.DEADLINE, ErrorKind.CONFLICT}
_AGAIN_AFTER_S = 1.0
_PROGRESS_STEP = 5


@dataclass(frozen=True)
class Needed:
    """An artifact a segment cannot start without."""

    digest: str
    limits: Limits | None = None
    """Of a bundle, which is unpacked; None: a file."""
    label: str = ""
    """What people call it; empty: by its digest."""


def needed_by(spec: SegmentSpec) -> list[Needed]:
    """What the segment's stages need, each once."""
    found = {stage.artifact: _limits(stage) for stage in spec.stages if stage.artifact}
    return [Needed(digest, limits) for digest, limits in found.items()]


def _limits(stage: StageSpec) -> Limits | None:
    if stage.framework == "code":
        return CODE
    return MODEL if stage.bundled else None


class ArtifactCache:
    """One folder shared by every copy of the node, of at most `cap_bytes` unless more is needed at once."""

    def __init__(
        self, folder: Path, fetch: Fetch, cap_bytes: int = CAP_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self.needed: Callable[[], Collection[str]] = frozenset
        """Digests of what must stay; whoever knows sets it. It may raise FoglineError: then nothing goes."""
        self._fetch = fetch
        self._cap_bytes = cap_bytes
        self._clock = clock
        self._turns: dict[str, asyncio.Lock] = {}

    async def ensure(self, needed: Needed, progress: Progress) -> Path:
        """The artifact's path, once it is here and verified; copies that need the same one wait for it.

        Waits for as long as the coordinator is away. Raises FoglineError when it cannot be had: not
        known, not what its digest says twice in a row, or refused while unpacking.
        """
        if not _DIGEST.fullmatch(needed.digest):
            raise FoglineError(ErrorKind.CORRUPT, f"{needed.digest[:80]!a} is not a SHA-256 digest")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with self._turns.setdefault(needed.digest, asyncio.Lock()):
            target = self.folder / needed.digest
            if not target.exists():
                blob = await self._verified(needed, progress)
                progress(f"unpacking {needed.digest[:8]}" if needed.limits else "")
                await _to_the_end(asyncio.to_thread(_install, blob, target, needed.limits))
                await self._make_room()
            os.utime(target, (self._clock(), self._clock()))
            return target

    async def _make_room(self) -> None:
        held = await asyncio.to_thread(_held, self.folder)
        try:
            needed = set(self.needed())
        except FoglineError as error:
            log.warning("the artifact cache may outgrow its cap: %s", error.sentence)
            return
        needed |= {digest for digest, turn in self._turns.items() if turn.locked()}
        going = victims(held, needed, self._cap_bytes)
        if going:
            log.info("%d artifacts that nothing here needs make room", len(going))
            trash = take_away([self.folder / each.name for each in going], self.folder.parent)
            await asyncio.to_thread(destroy, trash)

    async def _verified(self, needed: Needed, progress: Progress) -> Path:
        digest = needed.digest
        partial = self.folder / f"{digest}.partial"
        if partial.exists() and await asyncio.to_thread(_sha256, partial) == digest:
            return partial
        for _ in range(2):  # what was left of an earlier attempt may be the part that is wrong
            await self._complete(needed, partial, progress)
            if await asyncio.to_thread(_sha256, partial) == digest:
                return partial
            partial.unlink()
        raise FoglineError(
            ErrorKind.CORRUPT, f"the coordinator's artifact {digest[:8]} is not what its digest says: upload it anew"
        )

    async def _complete(self, needed: Needed, partial: Path, progress: Progress) -> None:
        while True:
            try:
                await self._append(needed, partial, progress)
            except FoglineError as error:
                if error.kind not in _PASSING:
                    raise
                progress(f"fetching {_called(needed)}: {error.sentence}")
                await asyncio.sleep(_AGAIN_AFTER_S)
            else:
                return

    async def _append(self, needed: Needed, partial: Path, progress: Progress) -> None:
        with partial.open("ab") as file:
            progress(f"fetching {_called(needed)}")
            total_bytes = 0
            async for piece, total_bytes in self._fetch(needed.digest, file.tell()):
                file.write(piece)
                if file.tell() > total_bytes:
                    return  # it cannot be right: the digest will say so
                percent = 100 * file.tell() // max(1, total_bytes)
                progress(f"fetching {_called(needed)} {percent - percent % _PROGRESS_STEP} %")
            if file.tell() < total_bytes:
                raise FoglineError(ErrorKind.UNREACHABLE, "the coordinator stopped in the middle")


async def _to_the_end(doing: Coroutine[Any, Any, None]) -> None:
    """Wait for a thread also when cancelled: it cannot be stopped, and must not meet the next one."""
    task = asyncio.create_task(doing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _held(folder: Path) -> list[Held]:
    found = []
    for path in folder.iterdir():
        if _DIGEST.match(path.name):
            with contextlib.suppress(FileNotFoundError):  # another one that arrives gets its final name meanwhile
                found.append(Held(path.name, path.name[:DIGEST_LENGTH], size_bytes(path), path.stat().st_mtime))
    return found


def _called(needed: Needed) -> str:
    return needed.label or needed.digest[:8]


def _install(blob: Path, target: Path, limits: Limits | None) -> None:
    if limits:
        unpack(blob, target, limits)
        blob.unlink()
        return
    blob.chmod(0o444)
    with blob.open("rb") as file:
        os.fsync(file.fileno())
    blob.rename(target)
    sync_folder(target.parent)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
