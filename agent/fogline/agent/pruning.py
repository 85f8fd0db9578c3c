"""`fogline-agent prune`: what no assignment of the node needs goes from its disk.

The agent alone knows what it is busy with, so a running one is asked, over a socket in its state folder, and
a stopped one's state folder is held meanwhile. In the agent nothing can come between the last look at what is
needed and the taking away: both happen in one turn of the event loop, and a preparation looks for its artifacts
after its wish is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fogline.agent.core.desired import Assignment
from fogline.agent.host import leftovers, runtime
from fogline.agent.host.environments import Environments
from fogline.agent.host.leftovers import Keep
from fogline.agent.host.workspace import existing
from fogline.agent.needs import needs
from fogline.wire.terms import ErrorKind, FoglineError

log = logging.getLogger(__name__)

SOCKET = "prune.sock"
ANSWER_S = 600.0
Clear = Callable[[Collection[str]], Awaitable[None]]
_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Removal:
    """What went, or would."""

    kind: str
    name: str
    freed_bytes: int


class Pruning:
    """Removes what `wishes` do not need."""

    def __init__(
        self,
        state_dir: Path,
        environments: Environments,
        wishes: Callable[[], Iterable[Assignment]],
        clear: Clear | None = None,
    ) -> None:
        """`clear`: how the container engine is told which locks are needed; None: there is none."""
        self._state_dir = state_dir
        self._clear = clear
        self._environments = environments
        self._wishes = wishes

    async def prune(self, *, dry_run: bool) -> list[Removal]:
        """Remove it and say what. Raises FoglineError when it cannot be known what is needed: nothing goes then."""
        async with self._environments.installing:
            going = await asyncio.to_thread(leftovers.unneeded, self._state_dir, self._keep())
            freed_bytes = await asyncio.to_thread(leftovers.freed_bytes, going)
            keep = self._keep()
            removed = [
                (each.path, Removal(each.kind, each.path.name, size_bytes))
                for each, size_bytes in zip(going, freed_bytes, strict=True)
                if each.still(keep)  # else it is wanted since we looked
            ]
            if not dry_run:
                trash = leftovers.take_away([path for path, _ in removed], self._state_dir)
                await asyncio.to_thread(leftovers.destroy, trash)
        if self._clear and not dry_run:
            await self._clear(keep.environments)
        return [removal for _, removal in removed]

    async def make_room(self) -> None:
        """The same, when the disk is short; a failure is none of whoever needs the room."""
        try:
            removed = await self.prune(dry_run=False)
        except FoglineError as error:
            log.warning("the disk is short, and nothing could be removed: %s", error.sentence)
        else:
            freed_bytes = sum(each.freed_bytes for each in removed)
            log.warning(
                "the disk is short: removed %d things that nothing here needs, %s", len(removed), mb(freed_bytes)
            )

    async def serve(self) -> None:
        """Do it for whoever asks, until cancelled."""
        try:
            (self._state_dir / SOCKET).unlink(missing_ok=True)
            with _short(self._state_dir) as path:
                server = await asyncio.start_unix_server(self._answer, path, limit=_LINE_BYTES)
        except OSError as error:
            log.warning("fogline-agent prune will not reach this agent: %s", error)
            return
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            answer: dict[str, object] = {
                "removed": [asdict(each) for each in await self.prune(dry_run=bool(asked["dry_run"]))]
            }
        except FoglineError as error:
            answer = {"kind": error.kind.value, "error": error.sentence}
        except (ValueError, KeyError, TypeError, OSError) as error:
            answer = {"kind": ErrorKind.INTERNAL.value, "error": f"pruning failed: {error}"}
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _keep(self) -> Keep:
        needed = needs(self._wishes(), self._environments)
        used = {runtime.folder(self._state_dir).name}
        used |= {Path(each.noted_runtime()).name for each in existing(self._state_dir)}
        used |= {runtime.pointed(self._environments.folder / each).name for each in needed.environments}
        return Keep(needed.artifacts, needed.environments, frozenset(used))


async def ask(state_dir: Path, *, dry_run: bool) -> list[Removal]:
    """Have the agent that runs do it. Raises FoglineError when it does not answer, or refuses."""
    try:
        async with asyncio.timeout(ANSWER_S):
            with _short(state_dir) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES)
            writer.write(json.dumps({"dry_run": dry_run}).encode() + b"\n")
            answer = json.loads(await reader.readline())
            writer.close()
    except (OSError, ValueError, TimeoutError) as error:
        sentence = f"the agent with --state-dir {state_dir} does not answer: {error or 'too busy'}; try again"
        raise FoglineError(ErrorKind.UNREACHABLE, sentence) from error
    if "error" in answer:
        raise FoglineError(ErrorKind(answer["kind"]), answer["error"])
    return [Removal(**each) for each in answer["removed"]]


def mb(size_bytes: int) -> str:
    """For people."""
    return f"{size_bytes / 1e6:.1f} MB"


@contextlib.contextmanager
def _short(state_dir: Path) -> Iterator[str]:
    """The socket's path through a descriptor: it may hold 108 bytes, a state folder's may be longer."""
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)
