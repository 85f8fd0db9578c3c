"""The error catalogue: kind -> gRPC status -> exit code -> retryable, and the one translator.

A refusal crosses the wire as a gRPC status whose trailing metadata names its kind, so that the far end
raises the same FoglineError that the near end did. Anything else is INTERNAL with a bland sentence:
the detail goes to the log of the process where it happened.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from fogline.wire.terms import ErrorKind, FoglineError

log = logging.getLogger(__name__)

KIND_KEY = "fogline-error-kind"


@dataclass(frozen=True)
class Entry:
    """How one kind looks from outside."""

    status: grpc.StatusCode
    exit_code: int
    retryable: bool = False


CATALOGUE: dict[ErrorKind, Entry] = {
    ErrorKind.INVALID_DOCUMENT: Entry(grpc.StatusCode.INVALID_ARGUMENT, 2),
    ErrorKind.INVALID_ARGUMENT: Entry(grpc.StatusCode.INVALID_ARGUMENT, 2),
    ErrorKind.NOT_AVAILABLE_YET: Entry(grpc.StatusCode.UNIMPLEMENTED, 2),
    ErrorKind.NOT_FOUND: Entry(grpc.StatusCode.NOT_FOUND, 3),
    ErrorKind.AMBIGUOUS: Entry(grpc.StatusCode.INVALID_ARGUMENT, 3),
    ErrorKind.UNPLACEABLE: Entry(grpc.StatusCode.FAILED_PRECONDITION, 4),
    ErrorKind.FAILED: Entry(grpc.StatusCode.ABORTED, 5),
    ErrorKind.CONFLICT: Entry(grpc.StatusCode.ABORTED, 6, retryable=True),
    ErrorKind.DEADLINE: Entry(grpc.StatusCode.DEADLINE_EXCEEDED, 7, retryable=True),
    ErrorKind.UNREACHABLE: Entry(grpc.StatusCode.UNAVAILABLE, 8, retryable=True),
    ErrorKind.ADDRESS_IN_USE: Entry(grpc.StatusCode.FAILED_PRECONDITION, 9),
    ErrorKind.VERSION_MISMATCH: Entry(grpc.StatusCode.FAILED_PRECONDITION, 10),
    ErrorKind.OTHER_CLUSTER: Entry(grpc.StatusCode.PERMISSION_DENIED, 11),
    ErrorKind.REFUSED: Entry(grpc.StatusCode.PERMISSION_DENIED, 12),
    ErrorKind.CORRUPT: Entry(grpc.StatusCode.DATA_LOSS, 13, retryable=True),
    ErrorKind.INTERNAL: Entry(grpc.StatusCode.INTERNAL, 70),
}


def refusal(kind: str, sentence: str) -> FoglineError:
    """The refusal of a kind that came by name; one that only a newer release knows is INTERNAL."""
    known = {each.value for each in ErrorKind}
    return FoglineError(ErrorKind(kind) if kind in known else ErrorKind.INTERNAL, sentence)


def exit_code(error: FoglineError) -> int:
    """The exit code a command ends with for this refusal."""
    return CATALOGUE[error.kind].exit_code


@asynccontextmanager
async def answering(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Wrap the body of a servicer method: a FoglineError becomes its status, anything else INTERNAL."""
    try:
        yield
    except FoglineError as error:
        await _abort(context, error.kind, error.sentence)
    except (grpc.aio.AbortError, grpc.RpcError):
        raise
    except Exception:
        log.exception("unexpected failure while answering")
        await _abort(context, ErrorKind.INTERNAL, "the coordinator failed unexpectedly; its log has the details")


async def _abort(context: grpc.aio.ServicerContext[Any, Any], kind: ErrorKind, sentence: str) -> None:
    await context.abort(CATALOGUE[kind].status, sentence, trailing_metadata=((KIND_KEY, kind.value),))


def from_rpc(error: grpc.RpcError, peer: str) -> FoglineError:
    """The refusal behind a failed call to `peer` (HOST:PORT).

    A status without a kind was made by gRPC itself: the peer is away, or is not a coordinator.
    """
    code: grpc.StatusCode = error.code()
    details: str = error.details() or ""
    trailing: Any = error.trailing_metadata() or ()
    kind = next((str(value) for key, value in trailing if key == KIND_KEY), None)
    if kind in {each.value for each in ErrorKind}:
        return FoglineError(ErrorKind(kind), details)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return FoglineError(ErrorKind.DEADLINE, f"the coordinator at {peer} did not answer in time")
    if code is grpc.StatusCode.CANCELLED:  # a task that is cancelled gets CancelledError: this is a channel closing
        return FoglineError(
            ErrorKind.UNREACHABLE, f"the connection to {peer} was closed in the middle of a call: try again"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return FoglineError(
            ErrorKind.VERSION_MISMATCH, f"the coordinator at {peer} does not know this call: upgrade it"
        )
    if code is grpc.StatusCode.UNAVAILABLE:
        return FoglineError(
            ErrorKind.UNREACHABLE,
            f"no coordinator answers at {peer}; start one with `coord serve --listen {peer} --state-dir DIR`, "
            "or name another with --coordinator HOST:PORT",
        )
    return FoglineError(ErrorKind.INTERNAL, f"the call to {peer} failed: {code.name} {details}")
