"""What a node answers when it is asked: the end of a log, records as they pass. Knows no gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from fogline.agent.attendance import introduce
from fogline.agent.copies import Copy
from fogline.agent.host.control import Control, Silent
from fogline.wire.channel import CHUNK_BYTES
from fogline.wire.terms import ErrorKind, FoglineError

_HELD = 1000
"""Tapped records that wait for a slow link before the tap itself is held up (and loses some)."""


async def log_pieces(copy: Copy, tail_bytes: int) -> AsyncIterator[bytes]:
    """The last `tail_bytes` of the copy's log, across its one rotation, in pieces of at most 64 KiB."""
    log = copy.workspace.log
    former = log.with_name(log.name + ".1")
    present = _size_bytes(log)
    for path, wanted in ((former, tail_bytes - present), (log, tail_bytes)):
        if wanted <= 0 or not path.exists():
            continue
        with path.open("rb") as file:
            file.seek(max(0, _size_bytes(path) - wanted))
            while piece := file.read(CHUNK_BYTES):
                yield piece


async def tapped(copy: Copy, queue: str, count: int) -> AsyncGenerator[bytes, None]:
    """Records of a queue as JSON lines, as many at once as have come. Raises FoglineError when it cannot."""
    try:
        control = await introduce(copy)
    except Silent as error:
        raise _mute(copy, error) from error
    held: asyncio.Queue[bytes] = asyncio.Queue(_HELD)
    taking = asyncio.create_task(_take(control, queue, count, held))
    try:
        while line := await _first(held, taking):
            lines = [line]
            while not held.empty() and sum(map(len, lines)) < CHUNK_BYTES:
                lines.append(held.get_nowait())
            yield b"".join(lines)
        await taking
    except Silent as error:
        raise _mute(copy, error) from error
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await control.close()


async def _take(control: Control, queue: str, count: int, held: asyncio.Queue[bytes]) -> None:
    async with aclosing(control.tap(queue, count)) as records:
        async for record in records:
            await held.put(_line(record))


async def _first(held: asyncio.Queue[bytes], taking: asyncio.Task[None]) -> bytes:
    """The next record; empty when the tap has ended and everything was handed on."""
    getting = asyncio.create_task(held.get())
    await asyncio.wait({getting, taking}, return_when=asyncio.FIRST_COMPLETED)
    if not getting.done():
        getting.cancel()
        await asyncio.gather(getting, return_exceptions=True)
        return held.get_nowait() if not held.empty() else b""
    return getting.result()


def _line(record: Any) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mute(copy: Copy, error: Silent) -> FoglineError:
    return FoglineError(ErrorKind.UNREACHABLE, f"{copy.wish.id} does not answer on this node: {error}")
