"""What segments in containers are built from: written down for the nodes, or built here and pushed to a registry."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fogline.coordinator.artifacts import engine
from fogline.coordinator.artifacts.contexts import Written, base_image, lay_out, write_down
from fogline.coordinator.artifacts.lock import Lock, read_lock
from fogline.coordinator.artifacts.targets import read_target, this_machine
from fogline.coordinator.artifacts.wheels import path_of
from fogline.coordinator.cli.client import download
from fogline.coordinator.cli.documents import Ready
from fogline.coordinator.cli.locking import Settled, cut_queues
from fogline.coordinator.cli.uploading import Blob, upload_missing
from fogline.coordinator.core.split import Segment
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.terms import ErrorKind, FoglineError

Tell = Callable[[str], None]
_Contained = list[tuple[operator.Lock, Written, str]]
"""The locks of segments in containers, what their images are built from, and on which image."""


def with_images(
    stub: operator_grpc.OperatorCoordinatorStub, settled: Settled, base: str = "", *, tell: Tell
) -> Settled:
    """The same, with an image for each lock of a segment in a container: as a context, or pushed.

    `base` is what images begin with, where it is not `fogline/python:MINOR`. What was pushed before for the same
    context is taken as it is. Raises FoglineError when an image cannot be built or pushed.
    """
    contained = _contained(settled, base)
    document = settled.ready.document
    if document.registry is None:
        whats = [each for _, written, _ in contained for each in written.blobs.items()]
        if blobs := {digest: Blob("a build context", data) for digest, data in whats}:
            upload_missing(stub, blobs, "build contexts", tell)
        return _replaced(settled, contained, {})
    pushed: dict[str, str] = {}
    for lock, written, begins in contained:
        prefix, digest = document.registry.prefix, written.context.digest
        if digest in pushed or _was_pushed(lock, digest, prefix):
            continue
        whole = _lock(stub, lock.digest, tell)
        name = engine.name_of(prefix, document.id, lock.segment)
        pushed[digest] = _push(settled.ready, written, whole, (name, begins), tell)
    return _replaced(settled, contained, pushed)


def as_planned(settled: Settled, base: str = "") -> Settled:
    """The same without doing anything: what is not pushed yet has no image."""
    return _replaced(settled, _contained(settled, base), {})


def _contained(settled: Settled, base: str) -> _Contained:
    ready, found = settled.ready, _Contained()
    planned = {each.name: each for each in settled.reply.segments}
    automatic = cut_queues(ready, settled.reply)
    for lock in settled.locks:
        stages = tuple(planned[lock.segment].stages)
        if ready.document.contains(ready.document.pipeline[stages[0]]):
            segment, begins = Segment(lock.segment, stages, "", 0), base or base_image(lock.target)
            artifacts = ready.resolved.artifacts
            written = write_down(ready.document, segment, automatic, artifacts, lock.digest, begins)
            found.append((lock, written, begins))
    return found


def _was_pushed(lock: operator.Lock, context: str, prefix: str) -> bool:
    return lock.context == context and lock.image.startswith(f"{prefix}/")


def _replaced(settled: Settled, contained: _Contained, pushed: dict[str, str]) -> Settled:
    registry = settled.ready.document.registry
    fresh = {(lock.segment, lock.target): written.context.digest for lock, written, _ in contained}
    locks = []
    for lock in settled.locks:
        context = fresh.get((lock.segment, lock.target), "")
        kept = lock.image if registry and _was_pushed(lock, context, registry.prefix) else ""
        made = operator.Lock()
        made.CopyFrom(lock)
        made.context, made.image = context, pushed.get(context, kept)
        locks.append(made)
    return dataclasses.replace(settled, locks=locks)


def _push(ready: Ready, written: Written, lock: Lock, names: tuple[str, str], tell: Tell) -> str:
    """Build here and push; returns the image's name by digest. `names`: of the image, and of what it begins with."""
    require_own_architecture(lock.target)
    repository, base = names
    registry, tag = ready.document.registry, written.context.digest[: engine.TAG_LENGTH]
    assert registry is not None
    with tempfile.TemporaryDirectory(prefix="fogline-image-") as scratch:
        folder = Path(scratch) / "context"
        lay_out(written, lock, ready.resolved.blobs, folder)
        tell(f"building {repository}")
        began_s = time.monotonic()
        engine.build(folder, base, f"{repository}:{tag}", tell)
    tell(f"pushing {repository}, built in {time.monotonic() - began_s:.1f} s")
    image = engine.push(repository, tag, ready.document.registry_secret, tell)
    tell(f"pushed {image}")
    return image


def require_own_architecture(target: str) -> None:
    """Raises FoglineError when an image for this kind of node cannot be built here: engines build for their own."""
    wanted, own = read_target(target).architecture, this_machine().split("-")[1]
    if wanted != own:
        sentence = f"an image for {wanted} cannot be built on this machine, which is {own}"
        raise FoglineError(ErrorKind.UNPLACEABLE, f"{sentence}: submit from such a machine, or leave the registry out")


def _lock(stub: operator_grpc.OperatorCoordinatorStub, digest: str, tell: Tell) -> Lock:
    """The lock, its wheels in the cache: what this machine does not have comes from the coordinator's store."""
    lock = read_lock(b"".join(download(stub, digest)))
    missing = [wheel for wheel in lock.wheels if not path_of(wheel).exists()]
    for number, wheel in enumerate(missing, 1):
        tell(f"fetching {number} of {len(missing)} wheels, {wheel.name}")
        draft = path_of(wheel).with_suffix(".part")
        with draft.open("wb") as file:
            file.writelines(download(stub, wheel.sha256))
        draft.rename(path_of(wheel))
    return lock
