"""What a node answers when it is asked: a log, records as they pass. Knows no gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from fogline.agent.attendance import introduce
from fogline.agent.copies import Copy
from fogline.agent.host.control import Control, Silent
from fogline.agent.host.stagelog import From, StageLog
from fogline.wire.channel import CHUNK_BYTES
from fogline.wire.terms import ErrorKind, FoglineError

FOLLOW_S = 0.25
"""How often a followed log is looked at."""
_HELD = 1000
"""Tapped records that wait for a slow link before the tap itself is held up (and loses some)."""


async def log_pieces(find: Callable[[], Copy], begin: From, *, follow: bool) -> AsyncGenerator[bytes, None]:
    """Whole lines of the log of the copy that `find` names, in pieces of at most 64 KiB.

    With `follow` what is written later too, over rotations, restarts and a successor of the copy, until
    `find` raises since no copy is left.
    """
    path = find().workspace.log
    log, left = StageLog(path), follow
    try:
        await asyncio.to_thread(log.begin, begin)
        while True:
            while piece := log.read():
                yield piece
            if not left:
                break
            await asyncio.sleep(FOLLOW_S)
            now = _log_of(find)
            left = now is not None
            if now is not None and now != path:
                async for piece in _remains(log):
                    yield piece
                log, path = StageLog(now), now
                log.begin(From())
        if piece := log.rest():
            yield piece
    finally:
        log.close()


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


async def in_chunks(lines: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same lines, several at once: 64 KiB, or one line that is longer."""
    held = b""
    async for line in lines:
        if held and len(held) + len(line) > CHUNK_BYTES:
            yield held
            held = b""
        held += line
    if held:
        yield held


def _log_of(find: Callable[[], Copy]) -> Path | None:
    try:
        return find().workspace.log
    except FoglineError:  # it is gone: what it wrote last is still to be read
        return None


async def _remains(log: StageLog) -> AsyncIterator[bytes]:
    """What a log that is left behind still holds."""
    try:
        while piece := log.read() or log.rest():
            yield piece
    finally:
        log.close()


def _mute(copy: Copy, error: Silent) -> FoglineError:
    return FoglineError(ErrorKind.UNREACHABLE, f"{copy.wish.id} does not answer on this node: {error}")
