"""Content-addressed blobs on the coordinator's disk: one file per SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from fogline.wire.terms import ErrorKind, FoglineError

_DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_BLOB_BYTES = 4 * 2**30


class ArtifactStore:
    """Blobs under `folder`; a file with its final name is whole and verified."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink()

    def missing(self, digests: list[str]) -> list[str]:
        """Which of these are not here, in the order asked."""
        return [digest for digest in digests if not self._path(digest).exists()]

    def size_bytes(self, digest: str) -> int:
        """Size of a blob. Raises FoglineError when it is not here."""
        path = self._path(digest)
        if not path.exists():
            raise FoglineError(ErrorKind.NOT_FOUND, f"artifact {digest[:12]} is not in the store; submit again")
        return path.stat().st_size

    def read(self, digest: str, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        """The blob from `offset` on, in chunks."""
        self.size_bytes(digest)
        with self._path(digest).open("rb") as file:
            file.seek(offset)
            while chunk := file.read(chunk_bytes):
                yield chunk

    def writer(self, digest: str) -> ArtifactWriter:
        """Takes a blob in pieces and keeps it only if it has this digest."""
        return ArtifactWriter(self._path(digest), digest)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"{digest[:80]!r} is not a SHA-256 in hex")
        return self._folder / digest


class ArtifactWriter:
    """A blob on its way in; leaving the `with` block without `finish` throws it away."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._digest = digest
        self._part = path.with_name(f"{digest}.{secrets.token_hex(4)}.part")
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    def __enter__(self) -> ArtifactWriter:
        self._file = self._part.open("xb")
        return self

    def write(self, data: bytes) -> None:
        """Append a piece. Raises FoglineError past the size limit."""
        self._size_bytes += len(data)
        if self._size_bytes > MAX_BLOB_BYTES:
            sentence = f"artifact {self._digest[:12]} is larger than {MAX_BLOB_BYTES} bytes"
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
        self._hash.update(data)
        self._file.write(data)

    def finish(self) -> int:
        """Verify, sync and give the blob its name; returns its size in bytes. Raises FoglineError if it differs."""
        if self._hash.hexdigest() != self._digest:
            sentence = f"what arrived as artifact {self._digest[:12]} has another digest; upload it again"
            raise FoglineError(ErrorKind.CORRUPT, sentence)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.rename(self._path)
        return self._size_bytes

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)
