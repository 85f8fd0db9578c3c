"""A lock: exactly which wheels make up an environment on one kind of node. An artifact like any other.

Canonical JSON without requirements and addresses, so that equal sets of wheels have one digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from fogline.wire.terms import ErrorKind, FoglineError

VERSION = 1


@dataclass(frozen=True, order=True)
class Wheel:
    """One file of a lock; its SHA-256 names it as an artifact."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Lock:
    """The wheels for one kind of node, sorted by name."""

    target: str
    wheels: tuple[Wheel, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no blanks, UTF-8."""
        value = {"fogline-lock": VERSION, "target": self.target, "wheels": [asdict(each) for each in self.wheels]}
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def as_requirements(self) -> str:
        """The same as lines for pip and uv."""
        return "".join(f"{each.name}=={each.version} --hash=sha256:{each.sha256}\n" for each in self.wheels)


def lock_of(target: str, files: Iterable[Path]) -> Lock:
    """The lock of these wheel files. Raises FoglineError for a file whose name is none of a wheel."""
    return Lock(target, tuple(sorted(_wheel(file) for file in files)))


def read_lock(data: bytes) -> Lock:
    """The lock behind its bytes. Raises FoglineError when they are none of this version."""
    try:
        value = json.loads(data)
        if value["fogline-lock"] != VERSION:
            sentence = f"a lock of version {value['fogline-lock']} is newer than {VERSION}: upgrade"
            raise FoglineError(ErrorKind.VERSION_MISMATCH, sentence)
        wheels = [Wheel(**{key: each[key] for key in Wheel.__dataclass_fields__}) for each in value["wheels"]]
        return Lock(value["target"], tuple(wheels))
    except (ValueError, KeyError, TypeError) as error:
        raise FoglineError(ErrorKind.CORRUPT, f"what should be a lock is none: {error!r}") from error


def _wheel(file: Path) -> Wheel:
    try:
        name, version, _, _ = parse_wheel_filename(file.name)
    except InvalidWheelFilename as error:
        raise FoglineError(ErrorKind.CORRUPT, f"{file} is not named like a wheel: {error}") from error
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return Wheel(name, str(version), file.name, sha256, file.stat().st_size)
