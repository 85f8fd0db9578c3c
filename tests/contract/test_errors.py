"""What a status that gRPC itself made means to whoever called."""

from typing import Any

import grpc
import pytest

from fogline.wire.errors import CATALOGUE, from_rpc
from fogline.wire.terms import ErrorKind


class _Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "made by the library"

    def trailing_metadata(self) -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(
    ("code", "kind", "again"),
    [
        (grpc.StatusCode.UNAVAILABLE, ErrorKind.UNREACHABLE, True),
        (grpc.StatusCode.CANCELLED, ErrorKind.UNREACHABLE, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ErrorKind.DEADLINE, True),
        (grpc.StatusCode.UNIMPLEMENTED, ErrorKind.VERSION_MISMATCH, False),
        (grpc.StatusCode.UNKNOWN, ErrorKind.INTERNAL, False),
    ],
)
def test_a_status_without_a_kind(code: grpc.StatusCode, kind: ErrorKind, again: bool) -> None:
    error = from_rpc(_Failed(code), "10.0.0.9:7443")
    assert error.kind is kind
    assert CATALOGUE[kind].retryable is again
    assert "10.0.0.9:7443" in error.sentence
