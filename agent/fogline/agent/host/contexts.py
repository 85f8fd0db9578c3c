"""A build context as the submitter wrote it down, and everything that it names, fetched and put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from fogline.agent.host.artifacts import ArtifactCache, Needed, Progress, needed_by
from fogline.agent.host.bundle import CODE
from fogline.agent.host.environments import Environments
from fogline.runtimes.container.context import (
    Context,
    ContextError,
    Files,
    of_environment,
    of_segment,
    read_context,
)
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import ErrorKind, FoglineError


@dataclass(frozen=True)
class Whole:
    """What the two images of a segment are built from."""

    base: str
    """The image that they begin with."""
    environment: Files
    own: Files
    """Of the segment, without a Dockerfile."""
    recipe: str
    """Of the segment, after its first line."""

    def on(self, environment: str) -> Files:
        """What the segment is built from on this image of its environment."""
        return {**self.own, "Dockerfile": f"FROM {environment}\n{self.recipe}".encode()}


async def whole_context(
    spec: SegmentSpec, artifacts: ArtifactCache, environments: Environments, progress: Progress
) -> Whole:
    """The context of a spec with all that it names on this disk. Raises FoglineError."""
    if not spec.context:
        sentence = "it came without a build context for its container: submit it again, with a `coord` as new as this"
        raise FoglineError(ErrorKind.FAILED, sentence)
    path = await artifacts.ensure(Needed(spec.context, label="its build context"), progress)
    context = _read(path)
    lock = await environments.fetch(context.lock, progress)
    bundle = await artifacts.ensure(Needed(context.bundle, CODE, "its runtime"), progress)
    for needed in needed_by(spec):
        await artifacts.ensure(needed, progress)
    for wheel in lock.wheels:  # also where environments are made from an index: no build has a network
        await artifacts.ensure(Needed(wheel.sha256, label=f"the wheel of {wheel.name}"), progress)
    folder = artifacts.folder
    wheels = {wheel.file: folder / wheel.sha256 for wheel in lock.wheels}
    environment = await asyncio.to_thread(of_environment, bundle, folder / context.lock, wheels)
    own = await asyncio.to_thread(of_segment, bundle, {each: folder / each for each in context.artifacts})
    dockerfile = {"Dockerfile": context.environment.encode()}
    return Whole(context.base, {**environment, **dockerfile}, own, context.segment)


def needed_for_image(spec: SegmentSpec, folder: Path) -> set[str]:
    """What building the image of a spec takes, besides its lock and the artifacts of its stages: by digest."""
    if not spec.context:
        return set()
    try:
        return {spec.context, _read(folder / spec.context).bundle}
    except (OSError, FoglineError):  # not here yet, so what it names is not asked for either
        return {spec.context}


def _read(path: Path) -> Context:
    try:
        return read_context(path.read_bytes())
    except ContextError as error:
        raise FoglineError(ErrorKind.CORRUPT, str(error)) from error
