"""Several streams of answers read as one, each answer as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Generic, Self, TypeVar

from fogline.wire.terms import FoglineError

K = TypeVar("K")
V = TypeVar("V")

_HELD = 64
"""Answers that wait for a slow reader before their sources are held up."""


class Merged(Generic[K, V]):
    """Sources by key, read inside `async with`. A refusal ends its own source alone, as that source's last item."""

    def __init__(self) -> None:
        self._held: asyncio.Queue[tuple[K, V | FoglineError]] = asyncio.Queue(_HELD)
        self._reading: set[asyncio.Task[Any]] = set()
        self._getting: asyncio.Task[tuple[K, V | FoglineError]] | None = None

    def add(self, key: K, source: AsyncGenerator[V, None]) -> None:
        """Begin to read one more source."""
        self._reading.add(asyncio.create_task(self._read(key, source)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop reading; every source is closed."""
        tasks = [*self._reading, *([self._getting] if self._getting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __aiter__(self) -> AsyncIterator[tuple[K, V | FoglineError]]:
        return self

    async def __anext__(self) -> tuple[K, V | FoglineError]:
        while True:
            getting = self._getting = self._getting or asyncio.create_task(self._held.get())
            if not (self._reading or getting.done() or not self._held.empty()):
                raise StopAsyncIteration
            await asyncio.wait({getting, *self._reading}, return_when=asyncio.FIRST_COMPLETED)
            for task in [each for each in self._reading if each.done()]:
                self._reading.discard(task)
                task.result()
            if getting.done():
                self._getting = None
                return getting.result()

    async def _read(self, key: K, source: AsyncGenerator[V, None]) -> None:
        try:
            async with aclosing(source) as answers:
                async for answer in answers:
                    await self._held.put((key, answer))
        except FoglineError as error:
            await self._held.put((key, error))
