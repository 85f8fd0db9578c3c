"""`coord` against a coordinator in the test's event loop: to its end, or as a process to watch."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from fogline.coordinator.cli.app import app
from fogline.wire.errors import exit_code
from fogline.wire.terms import FoglineError
from support.fake_agent import Served

BIN = Path(sys.executable).parent
_HEEDING_INTERRUPTS = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A test run that a shell put into the background ignores Ctrl-C, and so would whatever it starts. Not undone
between fork and exec: gRPC's threads make a fork of this process unsafe."""


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


@asynccontextmanager
async def begun(service: Served, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running command; its output can be read meanwhile. It is ended with the test at the latest."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _HEEDING_INTERRUPTS,
        str(BIN / "coord"),
        *arguments,
        env={**os.environ, "FOGLINE_COORDINATOR": service.address, "TZ": "UTC"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def coord(service: Served, *arguments: str) -> Done:
    """Run a command to its end, in a thread: without the start of a process."""
    return await asyncio.to_thread(alone, *arguments, address=service.address)


def alone(*arguments: str, address: str = "") -> Done:
    """The same of a command that asks no coordinator, here and now."""
    result = CliRunner().invoke(app, arguments, env={"FOGLINE_COORDINATOR": address})
    if isinstance(result.exception, FoglineError):  # as `main` of `coord` does
        return Done(exit_code(result.exception), result.stdout, f"{result.stderr}coord: {result.exception.sentence}\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)
