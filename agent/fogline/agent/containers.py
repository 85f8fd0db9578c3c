"""Containerized segments on this node: their images, their check, and what a start needs to know.

Imported only where there is a container engine.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from fogline.agent.drivers import in_memory
from fogline.agent.drivers.base import Container
from fogline.agent.drivers.docker import DockerDriver, hand_over, name_of, shared_terms, user
from fogline.agent.drivers.docker_engine import STATE_DIR, Engine, Order
from fogline.agent.host.artifacts import ArtifactCache, Progress
from fogline.agent.host.contexts import Whole, whole_context
from fogline.agent.host.environments import Environments
from fogline.agent.host.workspace import Workspace, existing, write_durably
from fogline.runtimes.container import recipe
from fogline.runtimes.container.context import Files, key, pack
from fogline.runtimes.spec import SECRETS_VARIABLE, SegmentSpec
from fogline.wire.terms import ErrorKind, FoglineError

log = logging.getLogger(__name__)

ENVIRONMENTS, SEGMENTS = "fogline/environment", "fogline/segment"
IMAGE = "image"
_KEY_LENGTH = 16
_TURN_S, _LOOK_S = 30.0, 0.05
_PULLS, _PULL_AGAIN_S = 3, 2.0
"""How often a registry is asked that does not answer, and after how long again."""


class Containers:
    """Makes images, one at a time, and knows which one each workspace needs."""

    def __init__(self, state_dir: Path, environments: Environments, artifacts: ArtifactCache) -> None:
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
        """Have the segment's image here, and noted in the workspace. Raises FoglineError."""
        if spec.image:
            image = await self._pulled(spec, progress)
        else:
            whole = await whole_context(spec, self._artifacts, self._environments, progress)
            image = await self._made(whole, progress)
        write_durably(workspace.path / IMAGE, image.encode())

    async def _made(self, whole: Whole, progress: Progress) -> str:
        """The id of the image: its environment and itself are built where they are not here."""
        base_id = await asyncio.to_thread(self._engine.image, whole.base)
        if not base_id:
            sentence = f"the image {whole.base}, which others are built on, is not on this node: docker load, import "
            raise FoglineError(ErrorKind.FAILED, f"{sentence}or pull it here, or name another with --base-image")
        progress("waiting for its turn to be built")
        async with self._building:
            tag, parent_id = await self._image(ENVIRONMENTS, whole.environment, base_id, progress)
            _, image = await self._image(SEGMENTS, whole.on(tag), parent_id, progress)
            return image

    async def _pulled(self, spec: SegmentSpec, progress: Progress) -> str:
        """The id of the image as it was pulled, with a label and a name of ours, by which it is removed again."""
        whole = sha256(f"{spec.image} {self._state_dir}".encode()).hexdigest()
        tag = f"{SEGMENTS}:{whole[:_KEY_LENGTH]}"
        async with self._building:
            image = await asyncio.to_thread(self._engine.image, tag)
            if image:
                return image
            pulled = await self._pull(spec, progress)
            files = {"Dockerfile": f"FROM {pulled}\n".encode()}
            _, image = await self._image(SEGMENTS, files, "", lambda _: None, tag)
            await asyncio.to_thread(self._engine.remove_images, [spec.image])
            return image

    async def _pull(self, spec: SegmentSpec, progress: Progress) -> str:
        login = _login(spec.image_secret)
        for left in reversed(range(_PULLS)):
            progress("pulling its image")
            try:
                return await asyncio.to_thread(self._engine.pull, spec.image, login, self._from_thread(progress))
            except FoglineError as error:
                if error.kind is not ErrorKind.UNREACHABLE or not left:
                    raise
                progress(f"{error.sentence}; trying again")
            await asyncio.sleep(_PULL_AGAIN_S)
        raise AssertionError  # the last attempt returns or raises

    async def _image(
        self, repository: str, files: Files, parent_id: str, progress: Progress, tag: str = ""
    ) -> tuple[str, str]:
        """Tag and id of the image that is made of these, which is built when it is not here.

        Another agent on this machine has its own, of the same layers: so each can remove what it does not need.
        """
        if not tag:
            whole = await asyncio.to_thread(key, files, f"{parent_id} {self._state_dir}")
            tag = f"{repository}:{whole[:_KEY_LENGTH]}"
        image = await asyncio.to_thread(self._engine.image, tag)
        if not image:
            progress("building its image")
            began_s = asyncio.get_running_loop().time()
            image = await asyncio.to_thread(self._build, files, tag, self._from_thread(progress))
            log.info("%s: built in %.1f s", tag, asyncio.get_running_loop().time() - began_s)
        return tag, image

    def _build(self, files: Files, tag: str, progress: Progress) -> str:
        try:
            with tempfile.TemporaryFile(dir=self._state_dir) as packed:
                pack(files, packed)
                packed.seek(0)
                with _turn(fcntl.LOCK_SH):
                    return self._engine.build(packed, tag, {STATE_DIR: str(self._state_dir)}, progress)
        except OSError as error:
            sentence = f"the build context does not fit into {self._state_dir}: {error.strerror or error}"
            raise FoglineError(ErrorKind.FAILED, sentence) from error

    @staticmethod
    def _from_thread(progress: Progress) -> Progress:
        """For whoever tells it outside the event loop."""
        loop = asyncio.get_running_loop()

        def tell(said: str) -> None:
            loop.call_soon_threadsafe(progress, said)

        return tell

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
        intent = workspace.intent()
        labels = {"fogline.assignment": spec.assignment_id, "fogline.cluster": spec.cluster}
        if intent:  # it is the container's: an image has none, else each revision would be another image
            labels["fogline.revision"] = str(intent.wish.revision)
        reads_files = any(end.connector == "file" for end in spec.sources)
        named = recipe.secrets(spec), recipe.folders(spec), reads_files
        return Container(image, spec.memory_bytes, spec.cpus, *named, labels, tls=recipe.speaks_tls(spec))

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
        with _turn(fcntl.LOCK_EX):
            self._engine.remove_images([*tags, *self._engine.leftovers()])
        return gone + tags


@contextmanager
def _turn(kind: int) -> Iterator[None]:
    """For builds, shared, and the removal of images, alone: what a build has just come to has no name yet, and would be
    taken for a leftover by another agent on this machine. Raises FoglineError when its turn does not come."""
    with (in_memory.home() / "images.lock").open("ab") as file:
        deadline_s = time.monotonic() + _TURN_S
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline_s:
                raise FoglineError(ErrorKind.FAILED, "another agent here builds images: they are removed next time")
            time.sleep(_LOOK_S)
        yield


def _noted(spaces: Iterable[Workspace]) -> Iterable[str]:
    for each in spaces:
        if (each.path / IMAGE).exists():
            yield (each.path / IMAGE).read_text()


def _check_name(workspace: Workspace) -> str:
    return f"{name_of(workspace.path)}-check"


def _login(secret: str) -> dict[str, str]:
    """What a registry is told, from the secret of this name on this node."""
    if not secret:
        return {}
    file = Path(os.environ.get(SECRETS_VARIABLE, "")) / secret
    try:
        user, colon, password = file.read_text().strip().partition(":")
    except OSError as error:
        sentence = f"the secret {secret}, with which its image is pulled, cannot be read: put USER:PASSWORD into {file}"
        raise FoglineError(ErrorKind.FAILED, sentence) from error
    if not colon:
        sentence = f"the secret {secret} is no login of a registry: {file} must hold USER:PASSWORD"
        raise FoglineError(ErrorKind.FAILED, sentence)
    return {"username": user, "password": password}
