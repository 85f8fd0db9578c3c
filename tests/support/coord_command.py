"""`coord` as a process of its own, talking to a coordinator in the test's event loop."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.fake_agent import Served

BIN = Path(sys.executable).parent
COMMAND_S = 25.0


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its result, where it is one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Its result line by line, without the padding of tables."""
        return [" ".join(line.split()) for line in self.out.splitlines()]


async def begin(service: Served, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Start a command; its output can be read while it runs."""
    return await asyncio.create_subprocess_exec(
        str(BIN / "coord"),
        *arguments,
        env={**os.environ, "FOGLINE_COORDINATOR": service.address, "TZ": "UTC", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def coord(service: Served, *arguments: str) -> Done:
    """Run a command to its end."""
    process = await begin(service, *arguments)
    async with asyncio.timeout(COMMAND_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())
