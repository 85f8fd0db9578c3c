"""Client of a stage's control socket: newline-delimited JSON, `{op, id, ...}` answered by `{id, ok, ...}`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from fogline.runtimes.spec import CONTROL_VERSION
from fogline.wire.terms import ErrorKind, FoglineError

ANSWER_S = 5.0
"""An operation not answered by then counts as unanswered."""
_LINE_BYTES = 8 * 1024 * 1024
"""A tapped record may be 1 MiB, and JSON may double it more than once."""


class Silent(Exception):
    """Nobody answers on the socket: not there yet, gone, or busy beyond the deadline."""


class Control:
    """One connection to one stage. Calls queue up; a tap takes the connection for itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()
        self._last_id = 0

    @classmethod
    async def connect(cls, workspace: Path) -> Control:
        """Connect to the workspace's socket. Raises Silent."""
        folder = os.open(workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # through the descriptor: a socket's path holds 108 bytes, a state folder's may be longer
            path = f"/proc/self/fd/{folder}/control.sock"
            async with asyncio.timeout(ANSWER_S):  # wait_for may swallow a cancel before Python 3.12
                reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES)
        except (OSError, TimeoutError) as error:
            raise Silent(str(error)) from error
        finally:
            os.close(folder)
        return cls(reader, writer)

    async def hello(self, nonce: str, spec_digest: str, timeout_s: float | None = ANSWER_S) -> int:
        """Who is there: its pid. Raises Silent, or FoglineError when it is not what we started."""
        answer = await self.call("hello", timeout_s, nonce=nonce, spec_digest=spec_digest, version=CONTROL_VERSION)
        try:
            return int(answer["pid"])
        except (KeyError, ValueError, TypeError) as error:
            raise Silent(f"hello: an answer that makes no sense: {error!r}") from error

    async def call(self, op: str, timeout_s: float | None = ANSWER_S, **arguments: Any) -> dict[str, Any]:
        """One operation and its answer; None waits for as long as it takes.

        Raises Silent, or FoglineError with the stage's own words.
        """
        async with self._turn:
            number = await self._send(op, arguments)
            return await self._answer(op, number, timeout_s)

    async def tap(self, queue: str, count: int) -> AsyncGenerator[Any, None]:
        """Records of a queue until `count` were seen (0: until closed). Raises as `call`."""
        async with self._turn:
            number = await self._send("tap", {"queue": queue, "count": count})
            while True:
                answer = await self._answer("tap", number, None)
                if "record" in answer:
                    yield answer["record"]
                if answer.get("last"):
                    return

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _send(self, op: str, arguments: dict[str, Any]) -> int:
        self._last_id += 1
        line = json.dumps({"op": op, "id": self._last_id, **arguments}).encode() + b"\n"
        try:
            self._writer.write(line)
            async with asyncio.timeout(ANSWER_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise Silent(f"{op}: {error}") from error
        return self._last_id

    async def _answer(self, op: str, number: int, timeout_s: float | None) -> dict[str, Any]:
        while True:
            answer = await self._line(op, timeout_s)
            if answer.get("id") != number:  # an answer that came after its deadline
                continue
            if answer.get("ok") is False:
                raise FoglineError(ErrorKind.FAILED, str(answer.get("error") or f"the stage refused {op}"))
            return answer

    async def _line(self, op: str, timeout_s: float | None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._reader.readline()
            answer = json.loads(line) if line else None
        except (OSError, TimeoutError, ValueError, RecursionError) as error:
            raise Silent(f"{op}: no answer ({type(error).__name__})") from error
        if not isinstance(answer, dict):
            raise Silent(f"{op}: the stage closed its control socket")
        return answer
