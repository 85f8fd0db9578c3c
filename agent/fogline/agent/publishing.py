"""Puts records into a queue through `python -m fogline.runtimes publish`, chunk by confirmed chunk.

The child reads JSON lines and writes `{"confirmed": N}` whenever the broker has acknowledged the first N
of them; when it gives up it writes `{"error": ...}` and ends.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fogline.agent.copies import Copy
from fogline.agent.host.child import child
from fogline.agent.host.environments import Environments
from fogline.agent.preparation import read_spec
from fogline.runtimes.spec import Exit
from fogline.wire.terms import ErrorKind, FoglineError

_KINDS: dict[int, ErrorKind] = {
    Exit.BAD_SPEC: ErrorKind.NOT_FOUND,  # the spec has no such queue
    Exit.STAGE_UNUSABLE: ErrorKind.INVALID_ARGUMENT,  # a line that is no record
    Exit.NOT_CONNECTED: ErrorKind.UNREACHABLE,
}


@asynccontextmanager
async def publisher(copy: Copy, queue: str, environments: Environments) -> AsyncIterator[Publisher]:
    """A publisher for one request; its child does not outlive the block."""
    spec = read_spec(copy.wish)
    command = [*await environments.beside(spec), "publish", str(copy.workspace.spec), "--queue", queue]
    async with child(command, copy.workspace.path, spec.environment) as process:
        yield Publisher(process)


class Publisher:
    """Feeds the child and counts what it confirms."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._fed = 0
        self._confirmed = 0
        self._error = ""

    async def confirm(self, lines: bytes) -> int:
        """Publish `lines`; returns how many records were confirmed so far, these included.

        Raises FoglineError with the child's reason when it gives up.
        """
        records = [line for line in lines.split(b"\n") if line.strip()]
        self._fed += len(records)
        feeding = asyncio.create_task(self._feed(b"".join(record + b"\n" for record in records)))
        try:
            while self._confirmed < self._fed:
                await self._hear()
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return self._confirmed

    async def finish(self) -> None:
        """No more records. Raises FoglineError when the child does not end well."""
        self._stdin.close()
        while line := await self._stdout.readline():
            self._take(line)
        await self._ended_well()

    async def _feed(self, lines: bytes) -> None:
        self._stdin.write(lines)
        await self._stdin.drain()

    async def _hear(self) -> None:
        line = await self._stdout.readline()
        if not line:
            await self._ended_well()
            raise FoglineError(ErrorKind.FAILED, "publishing ended before all records were confirmed")
        self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            self._error = str(said.get("error") or self._error)
            self._confirmed = int(said.get("confirmed", self._confirmed))
        except (ValueError, TypeError, AttributeError):
            raise FoglineError(ErrorKind.INTERNAL, f"publishing said {line[:200]!r}") from None

    async def _ended_well(self) -> None:
        code = await self._process.wait()
        if code != Exit.DONE:
            sentence = self._error or f"publishing ended with exit code {code}; the segment's log may say why"
            raise FoglineError(_KINDS.get(code, ErrorKind.FAILED), sentence)
