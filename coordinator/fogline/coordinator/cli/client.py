"""The conversation of `coord` with a coordinator: one channel, checked versions, FoglineError for every refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc

from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire import version
from fogline.wire.channel import CHUNK_BYTES, CLIENT_OPTIONS, require_loopback
from fogline.wire.errors import from_rpc

CALL_S = 30.0
CONNECT_S = 5.0


@contextmanager
def connect(address: str, *, insecure: bool = False) -> Iterator[operator_grpc.OperatorCoordinatorStub]:
    """A stub for the coordinator at HOST:PORT. Inside, every failed call is a FoglineError."""
    require_loopback(address, insecure=insecure)
    with grpc.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
        stub = operator_grpc.OperatorCoordinatorStub(channel)
        try:
            hello = operator.HandshakeRequest(protocol=version.PROTOCOL, release=version.release())
            reply = stub.Handshake(hello, timeout=CONNECT_S)
            version.check_peer(f"the coordinator at {address}", reply.protocol, reply.release)
            yield stub
        except grpc.RpcError as error:
            raise from_rpc(error, address) from error


def download(stub: operator_grpc.OperatorCoordinatorStub, digest: str) -> Iterator[bytes]:
    """A blob of the coordinator's store, in pieces."""
    for piece in stub.DownloadArtifact(operator.DownloadArtifactRequest(digest=digest)):
        yield piece.data


def upload(stub: operator_grpc.OperatorCoordinatorStub, digest: str, data: Iterable[bytes]) -> None:
    """Send one blob in chunks; the coordinator verifies its digest."""

    def pieces() -> Iterator[operator.UploadArtifactRequest]:
        yield operator.UploadArtifactRequest(digest=digest)
        for block in data:
            for start in range(0, len(block), CHUNK_BYTES):
                yield operator.UploadArtifactRequest(data=block[start : start + CHUNK_BYTES])

    stub.UploadArtifact(pieces())
