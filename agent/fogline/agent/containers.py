"""Containerized segments on this node: their images, their check, and what a start needs to know.

Imported only where there is a container engine.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from fogline.agent.drivers.base import Container
from fogline.agent.drivers.docker import DockerDriver, hand_over, name_of, shared_terms, user
from fogline.agent.drivers.docker_engine import STATE_DIR, Engine, Order
from fogline.agent.host.artifacts import Progress
from fogline.agent.host.context import Context, key, of_environment, of_segment, pack
from fogline.agent.host.environments import Environments
from fogline.agent.host.workspace import Workspace, existing, write_durably
from fogline.runtimes.container import recipe
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import ErrorKind, FoglineError

log = logging.getLogger(__name__)

BASE = f"fogline/python:{sys.version_info[0]}.{sys.version_info[1]}"
"""The image that all others begin with: of the same kind of node as this one, since its wheels are this node's."""
ENVIRONMENTS, SEGMENTS = "fogline/environment", "fogline/segment"
IMAGE = "image"
_KEY_LENGTH = 16


class Containers:
    """Makes images, one at a time, and knows which one each workspace needs."""

    def __init__(self, state_dir: Path, environments: Environments, artifacts: Path) -> None:
        self._state_dir = state_dir
        self._engine = Engine()
        self.driver = DockerDriver(self._engine)
        self._environments = environments
        self._artifacts = artifacts
        self._building = asyncio.Lock()

    def answers(self) -> bool:
        """Whether the engine takes orders now. Blocks."""
        return self._engine.answers()

    async def ensure(self, spec: SegmentSpec, workspace: Workspace, progress: Progress) -> None:
        """Have the segment's image here, and noted in the workspace. Its artifacts are here. Raises FoglineError."""
        if not spec.lock:
            sentence = "a container needs packages of its own: start the agent with --environments store"
            raise FoglineError(ErrorKind.FAILED, sentence)
        lock = await self._environments.fetch(spec.lock, progress)
        runtime = await self._environments.runtime()
        base_id = await asyncio.to_thread(self._engine.image, BASE)
        if not base_id:
            raise FoglineError(ErrorKind.FAILED, f"the image {BASE} is not on this node: docker load or import it")
        progress("waiting for its turn to be built")
        async with self._building:
            made = of_environment(spec.lock, lock, BASE, self._artifacts)
            tag, parent_id = await self._image(ENVIRONMENTS, made, base_id, progress)
            made = of_segment(spec, tag, runtime, self._artifacts)
            _, image = await self._image(SEGMENTS, made, parent_id, progress)
            write_durably(workspace.path / IMAGE, image.encode())

    async def _image(self, repository: str, made: Context, parent_id: str, progress: Progress) -> tuple[str, str]:
        """Tag and id of the image that is made of this, which is built when it is not here.

        Another agent on this machine has its own, of the same layers: so each can remove what it does not need.
        """
        whole = await asyncio.to_thread(key, made, f"{parent_id} {self._state_dir}")
        tag = f"{repository}:{whole[:_KEY_LENGTH]}"
        image = await asyncio.to_thread(self._engine.image, tag)
        if not image:
            progress("building its image")
            began_s = asyncio.get_running_loop().time()
            with tempfile.TemporaryFile(dir=self._state_dir) as packed:
                await asyncio.to_thread(pack, made, packed)
                packed.seek(0)
                image = await asyncio.to_thread(self._engine.build, packed, tag, {STATE_DIR: str(self._state_dir)})
            log.info("%s: built in %.1f s", tag, asyncio.get_running_loop().time() - began_s)
        return tag, image

    async def check(self, spec: SegmentSpec, workspace: Workspace) -> tuple[int, bytes]:
        """Check the segment in a container of its image: the exit code and what it printed.

        Raises TimeoutError past its deadline, FoglineError.
        """
        container = self.container(spec, workspace)
        mounts, variables = await asyncio.to_thread(shared_terms, workspace.path, container)
        await asyncio.to_thread(hand_over, workspace.path)
        command = (*recipe.RUNTIME[1:], "check", f"{recipe.WORKSPACE}/spec.json", "--artifacts", recipe.ARTIFACTS)
        order = Order(
            _check_name(workspace),
            container.image,
            command,
            tuple(mounts),
            user(),
            recipe.WORKSPACE,
            variables | dict(spec.environment),
            {STATE_DIR: str(self._state_dir)},
            container.memory_bytes,
            container.cpus,
            (recipe.PYTHON,),
        )
        try:
            code, said, complained = await asyncio.to_thread(self._engine.run, order, spec.health.startup_s)
        finally:  # when this is cancelled the container is still there, and someone waits for it in a thread
            await asyncio.to_thread(self._engine.remove, order.name)
        with workspace.log.open("ab") as stage_log:
            stage_log.write(complained)
        return code, said

    async def end_former_check(self, workspace: Workspace) -> None:
        """Remove a check that an agent left behind when it died."""
        await asyncio.to_thread(self._engine.remove, _check_name(workspace))

    def container(self, spec: SegmentSpec, workspace: Workspace) -> Container:
        """What a start in this workspace needs to know. Raises FoglineError when its image was never made."""
        try:
            image = (workspace.path / IMAGE).read_text()
        except FileNotFoundError:
            sentence = "its image was never made on this node: coord restart makes it"
            raise FoglineError(ErrorKind.NOT_FOUND, sentence) from None
        labels = {"fogline.assignment": spec.assignment_id, "fogline.cluster": spec.cluster}
        return Container(image, spec.memory_bytes, spec.cpus, recipe.secrets(spec), labels)

    async def clear(self, locks: Collection[str] | None = None) -> None:
        """Remove containers whose workspace is gone, and images that no workspace names.

        With `locks`, also the environments of other locks: without them the next image takes longer. An engine that
        is away keeps what it has.
        """
        async with self._building:
            try:
                removed = await asyncio.to_thread(self._clear, locks)
            except FoglineError as error:
                log.warning("%s", error.sentence)
            else:
                if removed:
                    log.info("removed from the container engine: %s", ", ".join(removed))

    def _clear(self, locks: Collection[str] | None) -> list[str]:
        spaces = existing(self._state_dir)
        names = {name_of(each.path) for each in spaces} | {_check_name(each) for each in spaces}
        gone = [each.name for each in self._engine.of(str(self._state_dir)) if each.name not in names]
        for name in gone:
            self._engine.remove(name)
        needed = set(_noted(spaces))
        ours = f"{STATE_DIR}={self._state_dir}"
        tags = [tag for tag, (image, _) in self._engine.images(SEGMENTS, ours).items() if image not in needed]
        if locks is not None:
            layers = self._engine.images(ENVIRONMENTS, ours)
            tags += [tag for tag, (_, lock) in layers.items() if lock not in locks]
        self._engine.remove_images([*tags, *self._engine.leftovers()])
        return gone + tags


def _noted(spaces: Iterable[Workspace]) -> Iterable[str]:
    for each in spaces:
        if (each.path / IMAGE).exists():
            yield (each.path / IMAGE).read_text()


def _check_name(workspace: Workspace) -> str:
    return f"{name_of(workspace.path)}-check"
