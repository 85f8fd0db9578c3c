"""A short-lived child of the agent: a check, a publish, dead letters, uv. It never outlives its `async with`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import IO

LINE_BYTES = 8 * 1024 * 1024


@asynccontextmanager
async def child(
    command: list[str],
    workspace: Path,
    environment: Mapping[str, str],
    *,
    output: IO[bytes] | None = None,
    errors: IO[bytes] | None = None,
    inherited: Mapping[str, str] = os.environ,
) -> AsyncIterator[Process]:
    """Run `command` in `workspace`; its errors go to the stage's log there, or to `errors`.

    Its variables are `environment` on top of what is `inherited`.

    With `output` its standard output goes there and it has no input; without, both are pipes. Whatever
    is left of it and its group at the end of the block is killed. Raises OSError when it cannot start.
    """
    with nullcontext(errors) if errors else (workspace / "stage.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL if output else PIPE,
            stdout=output or PIPE,
            stderr=log,
            cwd=workspace,
            env=dict(inherited) | dict(environment),
            start_new_session=True,
            limit=LINE_BYTES,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.stdin:
            process.stdin.close()
        await process.wait()
