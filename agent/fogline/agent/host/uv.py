"""Makes an environment with uv: an empty one, then exactly the wheels of a lock.

uv is called directly, never through a shell. From a store it is told nothing but folders and digests and may use
no network; for an index it keeps the settings of this machine, which say where that is.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from fogline.agent.core.locks import Lock
from fogline.agent.host.child import child
from fogline.wire.terms import ErrorKind, FoglineError

INSTALL_S = 900.0
"""From an index over a slow line this may take a while; beyond it something hangs."""
_VENV = ("--offline", "--no-project", "--relocatable")
"""Relocatable: it gets its final name when it is whole."""
_SAID_BYTES = 16 * 1024
_SHOWN = 500
_AWAY = ("error sending request", "timed out", "connection closed", "dns error")
"""In the words of uv: the index is not reached, which may pass."""


class Uv:
    """The installer, with its cache in a folder of ours: hard links need one file system."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    async def make(self, environment: Path, lock: Lock, store: Sequence[Path] | None) -> None:
        """Make the environment with this lock's packages, from folders of wheels, or (None) from an index.

        Raises FoglineError: UNREACHABLE when the index is not reached, FAILED with uv's own words otherwise.
        """
        await self._run(environment, ["venv", *_VENV, "--python", sys.executable, "."], store)
        listed = environment / "requirements.txt"
        listed.write_text("".join(f"{wheel.requirement}\n" for wheel in lock.wheels))
        python = str(environment / "bin" / "python")
        install = ["pip", "install", "--python", python, "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        if store is not None:
            install += ["--offline", "--no-index"]
            install += [word for folder in store for word in ("--find-links", str(folder))]
        if lock.wheels:
            await self._run(environment, [*install, "-r", str(listed)], store)
        listed.unlink()

    async def _run(self, folder: Path, arguments: list[str], store: Sequence[Path] | None) -> None:
        import uv  # finding its binary; not before it is needed

        command = [uv.find_uv_bin(), *arguments, "--quiet", "--no-python-downloads", "--color", "never"]
        command += ["--no-config"] if store is not None else []
        inherited = {name: value for name, value in os.environ.items() if store is None or not _is_setting(name)}
        ours = {"UV_CACHE_DIR": str(self._cache), "UV_LINK_MODE": "hardlink"}
        with tempfile.TemporaryFile() as said:
            try:
                async with child(command, folder, ours, output=said, errors=said, inherited=inherited) as process:
                    async with asyncio.timeout(INSTALL_S):
                        code = await process.wait()
            except TimeoutError:
                raise FoglineError(ErrorKind.FAILED, f"installing took longer than {INSTALL_S:g} s") from None
            if code != 0:
                raise _failure(said, code)


def _is_setting(name: str) -> bool:
    """Whether a variable could change what is installed, or where."""
    return name.startswith(("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA"))


def _failure(said: IO[bytes], code: int) -> FoglineError:
    said.seek(0)
    words = " ".join(said.read(_SAID_BYTES).decode(errors="replace").split())
    away = any(each in words for each in _AWAY)
    shown = words.removeprefix("error: ")[:_SHOWN] or f"uv ended with exit code {code}"
    return FoglineError(ErrorKind.UNREACHABLE if away else ErrorKind.FAILED, f"installing failed: {shown}")
