"""The build context of a segment's image: written down once by whoever submits, put together wherever it is built.

::

    Dockerfile                        written down as it is
    environment/install.py            of the bundle
    environment/lock.json, wheels/    the lock's
    fogline/inside.py, shim.py, ...   of the bundle, without connectors and frameworks that the segment does not use
    artifacts/<digest>                code, unpacked, and models

What is written down names the rest by digest. Each of those is an artifact of its own, so that nothing is stored or
sent twice, and equal segments have equal contexts on every machine: no times, no owners, no places.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from fogline.runtimes import spec as runtimes
from fogline.runtimes.container import recipe
from fogline.runtimes.spec import SegmentSpec

VERSION = 1
Files = Mapping[str, bytes | Path]
"""Name in the context -> what it holds, or the file that does."""

_HERE = Path(__file__).parent
_OF_ENVIRONMENT, _OF_SEGMENT = ("install.py",), ("alive.py", "inside.py", "shim.py")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ContextError(ValueError):
    """The bytes are no context that this release can build."""


@dataclass(frozen=True)
class Context:
    """What an image is built from."""

    base: str
    """The image that it begins with."""
    environment: str
    """The Dockerfile up to the stage of that name."""
    segment: str
    """How it goes on after `FROM environment`."""
    bundle: str
    """Fogline's own files, an artifact: a tar, its names those of the context."""
    lock: str
    artifacts: tuple[str, ...]
    """Of the stages."""

    @property
    def dockerfile(self) -> str:
        """Both parts as one that stands on its own."""
        return f"{self.environment}FROM environment\n{self.segment}"

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no blanks, UTF-8."""
        document = {"fogline-context": VERSION} | asdict(self)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes, in hex: it names it as an artifact."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def written_down(spec: SegmentSpec, base: str, release: str, bundle: bytes) -> Context:
    """The context of a segment with a lock, on the image `base`; `bundle` is what `bundle_of` gave for it."""
    return Context(
        base,
        recipe.environment(spec.lock, base),
        recipe.segment(spec, release),
        hashlib.sha256(bundle).hexdigest(),
        spec.lock,
        spec.artifacts,
    )


def read_context(data: bytes) -> Context:
    """The context behind its bytes. Raises ContextError."""
    try:
        document = json.loads(data)
        if document["fogline-context"] != VERSION:
            raise ContextError(f"a build context of version {document['fogline-context']} is newer than {VERSION}")
        texts = {key: str(document[key]) for key in ("base", "environment", "segment")}
        named = [document["bundle"], document["lock"], *document["artifacts"]]
        if not all(_DIGEST.fullmatch(each) for each in named):
            raise ContextError("a build context names something by no digest")
        return Context(**texts, bundle=named[0], lock=named[1], artifacts=tuple(named[2:]))
    except ContextError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ContextError(f"what should be a build context is none: {error!r}") from error


def bundle_of(spec: SegmentSpec) -> bytes:
    """Fogline's own files for a segment: this release's runtime as far as it is used, and what runs beside it."""
    room = Path(runtimes.__file__).parent
    files = {f"environment/{name}": (_HERE / name).read_bytes() for name in _OF_ENVIRONMENT}
    files |= {f"fogline/{name}": (_HERE / name).read_bytes() for name in _OF_SEGMENT}
    for file in room.rglob("*.py"):
        inner = file.relative_to(room)
        if recipe.belongs(inner, spec):
            files[f"fogline/runtime/fogline/runtimes/{inner.as_posix()}"] = file.read_bytes()
    out = io.BytesIO()
    pack(files, out)
    return out.getvalue()


def of_environment(bundle: Path, lock: Path, wheels: Mapping[str, Path]) -> Files:
    """What goes into the environment, from the unpacked bundle, the lock's file, and its wheels by their names."""
    own = _below(bundle / "environment", "environment")
    return own | {"environment/lock.json": lock} | {f"environment/wheels/{name}": file for name, file in wheels.items()}


def of_segment(bundle: Path, artifacts: Mapping[str, Path]) -> Files:
    """What goes on top: from the unpacked bundle, and the artifacts by digest: folders, where they are bundles."""
    files = _below(bundle / "fogline", "fogline")
    for digest, path in artifacts.items():
        files |= _below(path, f"artifacts/{digest}")
    return files


def key(files: Files, below: str) -> str:
    """SHA-256 over names and contents, and the image they come upon: equal keys, equal images."""
    total = hashlib.sha256(below.encode())
    for name, content in sorted(files.items()):
        total.update(f"\0{name}\0".encode() + _sha256(content))
    return total.hexdigest()


def pack(files: Files, out: IO[bytes]) -> None:
    """Write the tar: sorted, without times and owners. Raises OSError."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(files.items()):
            about = tarfile.TarInfo(name)
            about.mode = 0o644
            if isinstance(content, bytes):
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
                continue
            found = content.stat()
            about.size, about.mode = found.st_size, 0o755 if found.st_mode & 0o100 else 0o644
            with content.open("rb") as file:
                tar.addfile(about, file)


def _below(path: Path, name: str) -> dict[str, bytes | Path]:
    if path.is_file():
        return {name: path}
    return {f"{name}/{each.relative_to(path).as_posix()}": each for each in _files(path)}


def _files(path: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(path):
        folders[:] = [each for each in folders if each != "__pycache__"]
        for name in names:
            yield Path(folder, name)


def _sha256(content: bytes | Path) -> bytes:
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
