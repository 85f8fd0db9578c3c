"""The environments of this node: one for each lock, shared by every segment with that lock.

::

    environments/<lock digest>   whole: it has this name only since everything in it is on the disk
                 .draft-*        being made; what an agent left behind that died is never used
    uv-cache/                    unpacked wheels; an environment's files are hard links to them
    wheels/<digest>/<file>       the wheels of the environment being made, under the names that uv knows them by

Bytecode is not compiled beforehand: the check before the first start imports what the segment uses and leaves it
compiled in the environment for good. That is an eighth of the files, and of the time before the first record.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from fogline.agent.core import locks
from fogline.agent.core.locks import Lock
from fogline.agent.host import runtime
from fogline.agent.host.artifacts import ArtifactCache, Needed, Progress
from fogline.agent.host.facts import boot_id, libc
from fogline.agent.host.uv import Uv
from fogline.agent.host.workspace import sync_disk, sync_folder, write_durably
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import ErrorKind, FoglineError

RUNTIME = (sys.executable, "-m", "fogline.runtimes")
"""The agent's own, for specs without a lock."""
AGAIN_AFTER_S = 15.0
"""When an index is not reached."""
_UNPACKED = 4
"""So many times its size a wheel takes once it is unpacked, about."""
_STORE, _OWN = "store", "own"
_OWN_CONNECTORS = frozenset({"file", "mqtt"})
"""They need no library."""


_IN_DOUBT = "in-doubt"
"""In uv's cache, with the boot id, while something in it is not on the disk for certain."""


class Environments:
    """Makes them, and says for every spec by which command its process starts."""

    def __init__(
        self, state_dir: Path, artifacts: ArtifactCache, own: tuple[str, ...] = RUNTIME, source: str = _OWN
    ) -> None:
        """`source`: where packages come from, as in `--environments`."""
        self.own = own
        self.artifacts = artifacts
        self.folder = state_dir / "environments"
        self.installing = asyncio.Lock()
        """Held while uv writes into its cache; one installation at a time is what a small node can bear."""
        self.make_room: Callable[[], Awaitable[None]] = _no_room
        """Called when the disk is too short for another one; whoever knows what is needed sets it."""
        self._state_dir = state_dir
        self._source = source
        self._cache = state_dir / "uv-cache"
        self._wheels = state_dir / "wheels"
        self._turns: dict[str, asyncio.Lock] = {}
        self._runtime: Path | None = None

    async def ensure(self, spec: SegmentSpec, progress: Progress) -> None:
        """Return when the segment's environment is whole; copies with the same lock wait for one another.

        Waits for as long as the coordinator, or the index, is away. Raises FoglineError when it cannot be made.
        """
        if not spec.lock or self.whole(spec.lock):
            return
        if self._source == _OWN:
            sentence = "its packages come in an environment of its own, and this node makes none: start the agent with"
            raise FoglineError(ErrorKind.FAILED, f"{sentence} --environments store")
        turn = self._turns.setdefault(spec.lock, asyncio.Lock())
        if turn.locked():
            progress("waiting for its environment, which is being made")
        async with turn:
            if not self.whole(spec.lock):
                await self._make(spec.lock, progress)

    async def command(self, spec: SegmentSpec) -> tuple[str, ...]:
        """What `fogline.runtimes` is started by for this spec, in its environment out here.

        Raises FoglineError when its environment is gone.
        """
        if not spec.lock:
            return self.own
        home = self.folder / spec.lock
        if not self.whole(spec.lock):
            sentence = f"its environment {spec.lock[:8]} is gone from this node: coord restart makes it again"
            raise FoglineError(ErrorKind.NOT_FOUND, sentence)
        runtime.point(home, await self.runtime())
        return str(home / "bin" / "python"), "-I", "-m", "fogline.runtimes"

    async def beside(self, spec: SegmentSpec) -> tuple[str, ...]:
        """The same for what reaches a segment's queues from outside its process, whether or not that is a container.

        One that a container holds cannot be used out here: it is made once more where its queues need libraries.
        """
        if spec.container and all(end.connector in _OWN_CONNECTORS for end in (*spec.sources, *spec.sinks)):
            return self.own
        if spec.container:
            await self.ensure(spec, lambda _: None)
        return await self.command(spec)

    async def runtime(self) -> Path:
        """The folder that environments have `fogline.runtimes` from."""
        if self._runtime is None:
            self._runtime = await asyncio.to_thread(runtime.lay_out, self._state_dir)
        return self._runtime

    def whole(self, digest: str) -> bool:
        """Whether the environment is there, and so is the Python that it was made for."""
        return (self.folder / digest / "bin" / "python").exists()

    def needed(self, spec: SegmentSpec) -> set[str]:
        """Artifacts without which the environment could not be made: none once it is whole, but for a container's."""
        if not spec.lock or (self.whole(spec.lock) and not spec.container):
            return set()
        try:
            lock = locks.parse((self.artifacts.folder / spec.lock).read_bytes())
        except (OSError, FoglineError):  # not here yet, so its wheels are not asked for either
            return {spec.lock}
        return {spec.lock, *(wheel.sha256 for wheel in lock.wheels)}

    async def fetch(self, digest: str, progress: Progress) -> Lock:
        """The lock and, from a store, its wheels, once they are among the artifacts. Raises FoglineError."""
        fetched = await self.artifacts.ensure(Needed(digest, label="the list of its packages"), progress)
        lock = await asyncio.to_thread(_read, fetched)
        reason = locks.unfit(lock.target, node_target())
        if reason:
            raise FoglineError(ErrorKind.FAILED, reason)
        if self._source == _STORE:
            for number, wheel in enumerate(lock.wheels, start=1):
                label = f"{number} of {len(lock.wheels)} wheels, {wheel.name}"
                await self.artifacts.ensure(Needed(wheel.sha256, label=label), progress)
        return lock

    async def _make(self, digest: str, progress: Progress) -> None:
        lock = await self.fetch(digest, progress)
        if await asyncio.to_thread(_free_bytes, self._state_dir) < _UNPACKED * lock.size_bytes:
            await self.make_room()
        while True:
            progress("waiting for its turn to be installed")
            async with self.installing:
                progress(f"installing {len(lock.wheels)} packages")
                try:
                    await self._install(digest, lock)
                except FoglineError as error:
                    if error.kind is not ErrorKind.UNREACHABLE:
                        raise
                    progress(f"{error.sentence}; trying again")
                else:
                    return
            await asyncio.sleep(AGAIN_AFTER_S)

    async def _install(self, digest: str, lock: Lock) -> None:
        """What changes files is not done in threads: they would go on when this is cancelled."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._distrust_cache()
        draft = Path(tempfile.mkdtemp(prefix=runtime.DRAFT, dir=self.folder))
        try:
            store = self._lay_out_wheels(lock) if self._source == _STORE else None
            await Uv(self._cache).make(draft, lock, store)
            runtime.point(draft, await self.runtime())
            await asyncio.to_thread(sync_disk, draft)
            self._settle(draft, self.folder / digest)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(self._wheels, ignore_errors=True)

    def _settle(self, draft: Path, target: Path) -> None:
        former = draft.with_name(f"{draft.name}-former")
        if target.exists():  # the Python it was made for is gone
            target.rename(former)
        draft.rename(target)
        shutil.rmtree(former, ignore_errors=True)
        sync_folder(self.folder)
        (self._cache / _IN_DOUBT).unlink(missing_ok=True)

    def _lay_out_wheels(self, lock: Lock) -> list[Path]:
        """A folder for each wheel, named by its digest: by that name uv finds it in its cache again."""
        folders = []
        for wheel in lock.wheels:
            folder = self._wheels / wheel.sha256
            folder.mkdir(parents=True, exist_ok=True)
            _replace_link(self.artifacts.folder / wheel.sha256, folder / wheel.file)
            folders.append(folder)
        return folders

    def _distrust_cache(self) -> None:
        """Begin the cache anew when the machine went down while uv wrote into it: what is in there may be half."""
        mark = self._cache / _IN_DOUBT
        if mark.exists() and mark.read_text() != boot_id():
            shutil.rmtree(self._cache)
        self._cache.mkdir(mode=0o700, exist_ok=True)
        write_durably(mark, boot_id().encode())


def node_target() -> str:
    """The kind of node that this one is, as locks name it."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}-{os.uname().machine}-{libc()}"


async def _no_room() -> None:
    return None


def _free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _read(path: Path) -> Lock:
    with path.open("rb") as file:
        return locks.parse(file.read(locks.MAX_BYTES))


def _replace_link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    os.link(source, target)
