"""Blobs on their way to the coordinator's store, with a line now and then while it takes long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fogline.coordinator.cli.client import CALL_S, upload
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc

TELL_S = 2.0
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Blob:
    """Something to be in the store: its bytes, or the file that holds them, and what people call it."""

    name: str
    content: bytes | Path

    @property
    def size_bytes(self) -> int:
        """How much is to be sent."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def upload_missing(
    stub: operator_grpc.OperatorCoordinatorStub, blobs: Mapping[str, Blob], what: str, tell: Callable[[str], None]
) -> None:
    """Send those of these blobs (by digest) that the store lacks; `what` they are, for people: `wheels`."""
    digests = sorted(blobs)
    missing = stub.MissingArtifacts(operator.MissingArtifactsRequest(digests=digests), timeout=CALL_S).digests
    if missing:
        total = sum(blobs[digest].size_bytes for digest in missing)
        tell(f"uploading {len(missing)} of {len(digests)} {what} ({shown_size(total)})")
    for digest in missing:
        upload(stub, digest, _blocks(blobs[digest], tell))


def shown_size(size_bytes: int) -> str:
    """For people: `41 MB`."""
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def _blocks(blob: Blob, tell: Callable[[str], None]) -> Iterator[bytes]:
    if isinstance(blob.content, bytes):
        yield blob.content
        return
    sent, told_at_s = 0, time.monotonic()
    with blob.content.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
            sent += len(block)
            if time.monotonic() - told_at_s >= TELL_S:
                told_at_s = time.monotonic()
                tell(f"uploading {blob.name}: {100 * sent // max(1, blob.size_bytes)} %")
