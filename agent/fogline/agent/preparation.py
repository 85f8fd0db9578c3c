"""Prepare a copy: spec understood and allowed, artifacts verified, environment made, workspace laid out, check passed.

What is prepared can start without the coordinator and without the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fogline.agent.core.desired import Assignment
from fogline.agent.core.refusals import refusal
from fogline.agent.drivers.base import Container
from fogline.agent.drivers.either import NO_ENGINE
from fogline.agent.drivers.pids import end_group, is_the_one
from fogline.agent.host.artifacts import ArtifactCache, Progress, needed_by
from fogline.agent.host.child import child
from fogline.agent.host.environments import Environments
from fogline.agent.host.facts import boot_id
from fogline.agent.host.workspace import Workspace, last_words, read_json, write_durably
from fogline.runtimes.container.recipe import ARTIFACTS, RUNTIME
from fogline.runtimes.container.shim import start_ticks
from fogline.runtimes.spec import SegmentSpec, SpecError, digest, parse
from fogline.wire.terms import ErrorKind, FoglineError

if TYPE_CHECKING:
    from fogline.agent.containers import Containers

log = logging.getLogger(__name__)

RELEASE_S = 30.0
CHECK_NOTE = "check.json"
_VERDICT_BYTES = 64 * 1024


class Preparation:
    """Prepares copies, a few at a time: a check loads the models."""

    def __init__(
        self,
        artifacts: ArtifactCache,
        environments: Environments,
        refuses: tuple[str, ...] = (),
        containers: Containers | None = None,
    ) -> None:
        """`refuses`: kinds of models that must not be loaded here; `containers` None: there is no engine."""
        self._artifacts = artifacts
        self._environments = environments
        self._refuses = refuses
        self._containers = containers
        self._turns = asyncio.Semaphore(max(2, len(os.sched_getaffinity(0))))

    def artifacts(self, spec: SegmentSpec) -> Path:
        """The folder that the processes of this spec are told to look for artifacts in."""
        return Path(ARTIFACTS) if spec.container else self._artifacts.folder

    async def prepare(self, wish: Assignment, workspace: Workspace, progress: Progress) -> None:
        """Return when the copy could start. Raises FoglineError with the reason why it never could."""
        spec = self.allowed(wish)
        await self.end_former_check(workspace)
        workspace.create(wish)
        if spec.container:
            await self._engine().ensure(spec, workspace, progress)
        else:
            for needed in needed_by(spec):
                await self._artifacts.ensure(needed, progress)
            await self._environments.ensure(spec, progress)
        progress("waiting for its turn to be checked")
        async with self._turns:
            progress("checking")
            await self._check(spec, workspace)

    def allowed(self, wish: Assignment) -> SegmentSpec:
        """The wish's spec. Raises FoglineError when it is none, or the operator does not allow what is in it."""
        spec = read_spec(wish)
        reason = refusal(spec, self._refuses)
        if reason:
            raise FoglineError(ErrorKind.REFUSED, reason)
        return spec

    async def command(self, spec: SegmentSpec) -> tuple[str, ...]:
        """What a process of this spec is started by. Raises FoglineError when its environment is gone."""
        if spec.container:
            return RUNTIME
        return await self._environments.command(spec)

    def container(self, spec: SegmentSpec, workspace: Workspace) -> Container | None:
        """What it is started with besides; None: it is no container. Raises FoglineError when its image is gone."""
        return self._engine().container(spec, workspace) if spec.container else None

    async def note_runtime(self, spec: SegmentSpec, workspace: Workspace) -> None:
        """Have on the disk which copy of the runtime the next process reads, as long as it may. Raises OSError."""
        workspace.note_runtime(await self._environments.runtime() if spec.lock and not spec.container else None)

    async def release(self, wish: Assignment, workspace: Workspace) -> str:
        """End the broker sessions of the segment's readers, or of those the wish names.

        Returns a sentence about what they had not read yet, empty when that is nothing. Raises FoglineError when
        a session stays.
        """
        spec = read_spec(wish)
        workspace.create(wish)
        command = [*await self._released_by(spec), "release", str(workspace.spec)]
        for reader in () if wish.release else wish.release_readers:
            command += ["--reader", reader]
        said = workspace.path / "release.out"
        try:
            with said.open("wb") as output:
                async with child(command, workspace.path, spec.environment, output=output) as process:
                    async with asyncio.timeout(RELEASE_S):
                        code = await process.wait()
        except TimeoutError:
            raise FoglineError(ErrorKind.DEADLINE, f"no broker let go within {RELEASE_S:g} s") from None
        if code != 0:
            raise FoglineError(ErrorKind.FAILED, f"release ended with exit code {code}")
        return "; ".join(_given_up(line) for line in said.read_bytes().splitlines() if line.startswith(b"{"))

    async def _released_by(self, spec: SegmentSpec) -> tuple[str, ...]:
        """Rather by the agent's own, which may have the libraries, than not at all."""
        if spec.lock and not spec.container and not self._environments.whole(spec.lock):
            return self._environments.own
        try:
            async with asyncio.timeout(RELEASE_S):
                return await self._environments.beside(spec)
        except (FoglineError, TimeoutError) as error:
            log.warning("%s is released by the agent's own environment: %s", spec.assignment_id, error)
            return self._environments.own

    async def forget(self, wish: Assignment) -> None:
        """Its workspace is gone: so goes what the container engine holds for nobody else."""
        if self._containers and read_spec(wish).container:
            await self._containers.clear()

    async def end_former_check(self, workspace: Workspace) -> None:
        """End a check that an agent left behind when it died, with everything it has started."""
        noted = read_json(workspace.path / CHECK_NOTE)
        pid, start = int(noted.get("pid", 0)), int(noted.get("start", 0))
        if noted.get("boot_id") == boot_id() and is_the_one(pid, start):
            await asyncio.to_thread(end_group, pid, pid)
        if self._containers and (workspace.path / "image").exists():
            await self._containers.end_former_check(workspace)

    def _engine(self) -> Containers:
        if self._containers is None:
            raise FoglineError(ErrorKind.FAILED, NO_ENGINE)
        return self._containers

    async def _check(self, spec: SegmentSpec, workspace: Workspace) -> None:
        said, limit_s = workspace.path / "check.out", spec.health.startup_s
        try:
            if spec.container:
                code, printed = await self._engine().check(spec, workspace)
                said.write_bytes(printed)
            else:
                code = await self._checked(spec, workspace, said)
        except TimeoutError:
            sentence = f"the check did not finish within {limit_s:g} s (health.startup): an import or a model hangs"
            raise FoglineError(ErrorKind.FAILED, sentence) from None
        if code != 0:
            raise FoglineError(ErrorKind.FAILED, _reason(said, code))

    async def _checked(self, spec: SegmentSpec, workspace: Workspace, said: Path) -> int:
        command = [*await self.command(spec), "check", str(workspace.spec), "--artifacts", str(self.artifacts(spec))]
        with said.open("wb") as output:
            async with child(command, workspace.path, spec.environment, output=output) as process:
                note_check(workspace, process.pid)
                async with asyncio.timeout(spec.health.startup_s):
                    return await process.wait()


def _given_up(line: bytes) -> str:
    told = json.loads(line)
    return f"its reader of {told['queue']} is released; {told['left']} messages that it had not read were given up"


def note_check(workspace: Workspace, pid: int) -> None:
    """Have on the disk who checks, for an agent that comes after this one."""
    with contextlib.suppress(FileNotFoundError):  # it has ended already
        noted = {"pid": pid, "start": start_ticks(pid), "boot_id": boot_id()}
        write_durably(workspace.path / CHECK_NOTE, json.dumps(noted).encode())


def read_spec(wish: Assignment) -> SegmentSpec:
    """The wish's spec. Raises FoglineError when the bytes are not the digest's, or not a spec."""
    if digest(wish.spec) != wish.spec_digest:
        raise FoglineError(ErrorKind.FAILED, f"the spec of {wish.id} is not what its digest says")
    try:
        return parse(wish.spec)
    except SpecError as error:
        raise FoglineError(ErrorKind.FAILED, str(error)) from error


def _reason(said: Path, code: int) -> str:
    """Why the check failed, from the last line it wrote."""
    with said.open("rb") as file:
        file.seek(max(0, said.stat().st_size - _VERDICT_BYTES))
        lines = file.read().splitlines()
    try:
        words = last_words(json.loads(lines[-1]))
    except (IndexError, ValueError, AttributeError):
        words = ""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return words or f"the check ended with {how} and gave no reason; `coord logs` has what it printed"
