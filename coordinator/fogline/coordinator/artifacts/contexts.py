"""The build contexts of segments: written down for agents, and laid out in folders for a plain `docker build`."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fogline.coordinator.artifacts.lock import Lock
from fogline.coordinator.artifacts.wheels import path_of
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.specs import image_spec
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.model import CODE, Document, Queue
from fogline.runtimes.container.context import Context, bundle_of, written_down
from fogline.wire.terms import ErrorKind, FoglineError


@dataclass(frozen=True)
class Written:
    """The build context of one segment as it is written down, and Fogline's own files, which it names."""

    context: Context
    bundle: bytes
    folders: frozenset[str]
    """Those of its artifacts that are bundles."""

    @property
    def blobs(self) -> dict[str, bytes]:
        """What an agent must be able to fetch besides lock, wheels and the artifacts of stages: by digest."""
        return {self.context.digest: self.context.to_bytes(), self.context.bundle: self.bundle}


def base_image(target: str) -> str:
    """What images for this kind of node begin with where nobody says otherwise: that Python, on any system."""
    return f"fogline/python:{target.split('-')[0]}"


def write_down(
    document: Document,
    segment: Segment,
    automatic: Mapping[Link, Queue],
    artifacts: Mapping[str, str],
    lock: str,
    base: str,
) -> Written:
    """The context of a planned segment, on the image `base`.

    `automatic` are the queues of cut links, `artifacts` is stage -> digest, `lock` a digest. Equal arguments give equal
    digests on every machine with this release.
    """
    spec = image_spec(document, segment, automatic, artifacts, lock)
    bundle = bundle_of(spec)
    folders = frozenset(each.artifact for each in spec.stages if each.framework == CODE or each.bundled)
    return Written(written_down(spec, base, version("fogline"), bundle), bundle, folders)


def lay_out(written: Written, lock: Lock, blobs: Mapping[str, bytes | Path], folder: Path) -> None:
    """Write the whole context into `folder`, a new one: with it a plain `docker build` makes the image.

    The lock's wheels are in the cache, `blobs` holds the artifacts of stages by digest. Raises FoglineError (CONFLICT)
    when the folder is there already, (FAILED) when it cannot be written; then nothing is left of it.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise FoglineError(
            ErrorKind.CONFLICT, f"{folder} is there already: remove it, or name another folder"
        ) from None
    except OSError as error:
        raise FoglineError(ErrorKind.FAILED, f"{folder} cannot be made: {error.strerror or error}") from error
    try:
        _write(written, lock, blobs, folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise FoglineError(ErrorKind.FAILED, f"{folder} cannot be written: {error.strerror or error}") from error


def _write(written: Written, lock: Lock, blobs: Mapping[str, bytes | Path], folder: Path) -> None:
    _unpack(written.bundle, folder)
    (folder / "Dockerfile").write_text(written.context.dockerfile)
    (folder / "environment" / "lock.json").write_bytes(lock.to_bytes())
    (folder / "environment" / "wheels").mkdir()
    for wheel in lock.wheels:
        _copy(path_of(wheel), folder / "environment" / "wheels" / wheel.file)
    for digest in written.context.artifacts:
        target = folder / "artifacts" / digest
        target.parent.mkdir(exist_ok=True)
        if digest in written.folders:
            _unpack(blobs[digest], target)
        else:
            _copy(blobs[digest], target)


def _unpack(packed: bytes | Path, folder: Path) -> None:
    """A tar that this machine has made."""
    guarded: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # older Pythons have none
    with (
        io.BytesIO(packed) if isinstance(packed, bytes) else packed.open("rb") as file,
        tarfile.open(fileobj=file) as tar,
    ):
        tar.extractall(folder, **guarded)  # noqa: S202  # our own


def _copy(content: bytes | Path, target: Path) -> None:
    if isinstance(content, bytes):
        target.write_bytes(content)
        return
    shutil.copyfile(content, target)
    os.chmod(target, 0o644)
