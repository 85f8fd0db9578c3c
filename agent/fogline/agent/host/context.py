"""The build contexts of a segment's image: tars that are the same, byte for byte, for the same segment.

::

    of its environment               of itself
    Dockerfile, requirements.txt     Dockerfile, inside.py, shim.py, alive.py
    uv, _fogline.pth                 runtime/fogline/...   without connectors and frameworks that it does not use
    wheels/<file>   of the lock      artifacts/<digest>    code, unpacked, and models
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from fogline.agent.core.locks import Lock
from fogline.runtimes.container import recipe, shim
from fogline.runtimes.spec import SegmentSpec

Context = Mapping[str, bytes | Path]
"""Name in the context -> what it holds, or the file that does."""


def of_environment(digest: str, lock: Lock, base: str, artifacts: Path) -> Context:
    """What the image of an environment is built from; its wheels are in `artifacts`, `digest` is the lock's."""
    import uv  # finding its binary; not before it is needed

    python = lock.target.split("-")[0]
    files: dict[str, bytes | Path] = {
        "Dockerfile": recipe.environment(digest, base, python, wheels=bool(lock.wheels)).encode(),
        "_fogline.pth": b"/fogline/runtime\n",
        "uv": Path(uv.find_uv_bin()),
    }
    if lock.wheels:
        files["requirements.txt"] = "".join(f"{wheel.requirement}\n" for wheel in lock.wheels).encode()
    return files | {f"wheels/{wheel.file}": artifacts / wheel.sha256 for wheel in lock.wheels}


def of_segment(spec: SegmentSpec, parent: str, runtime: Path, artifacts: Path) -> Context:
    """What the image of a segment is built from, on the image of its environment."""
    drivers = Path(shim.__file__).parent
    files: dict[str, bytes | Path] = {"Dockerfile": recipe.segment(spec, parent).encode()}
    files |= {name: drivers / name for name in recipe.OWN_FILES}
    for file in _files(runtime):
        inner = file.relative_to(runtime)
        if file.suffix == ".py" and recipe.belongs(inner.relative_to("fogline/runtimes"), spec):
            files[f"runtime/{inner}"] = file
    for digest in spec.artifacts:
        for file in _files(artifacts / digest):
            if "__pycache__" not in file.parts:
                files[f"artifacts/{file.relative_to(artifacts)}"] = file
    return files


def key(made: Context, parent_id: str) -> str:
    """SHA-256 over names and contents, and the image they come upon: equal keys, equal images."""
    total = hashlib.sha256(parent_id.encode())
    for name, content in sorted(made.items()):
        total.update(f"\0{name}\0".encode() + _digest(content))
    return total.hexdigest()


def pack(made: Context, out: IO[bytes]) -> None:
    """Write the tar: sorted, without times and owners."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(made.items()):
            about = tarfile.TarInfo(name)
            about.mode = 0o755 if name == "uv" else 0o644
            if isinstance(content, bytes):
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
            else:
                about.size = content.stat().st_size
                with content.open("rb") as file:
                    tar.addfile(about, file)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, _, names in os.walk(path):
        for name in names:
            yield Path(folder, name)


def _digest(content: bytes | Path) -> bytes:
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
