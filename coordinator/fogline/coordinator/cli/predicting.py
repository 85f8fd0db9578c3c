"""`coord predict`: a request to a pipeline in API mode, through the coordinator."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.options import DEFAULT_ADDRESS, CoordinatorOption, IdArgument, InsecureOption
from fogline.coordinator.cli.output import say
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.terms import ErrorKind, FoglineError

PIECE_BYTES = 1024 * 1024
NOTHING = 204
REFUSED = 400


def predict(
    id_: IdArgument,
    data: Annotated[str, typer.Option("--data", "-d", help="A record in JSON, or a list; @FILE or - reads it.")],
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
) -> None:
    """Ask a pipeline in API mode.

    As a caller of its /predict would, but through the coordinator: nothing else must be reachable from here, and the
    node brings the token where there is one. Prints the answer. Exit code 5 when the pipeline refused or failed.

    Example: coord predict anomaly --data '{"cpu": 0.9}'
    """
    with connect(coordinator, insecure=insecure) as stub:
        replies = list(stub.Predict(_pieces(id_, _body(data))))
    status, body = replies[0].status, b"".join(reply.body for reply in replies)
    if status >= REFUSED:
        _refused(id_, status, body)
    if status == NOTHING:
        say("nothing came of it: a stage filtered it")
        return
    sys.stdout.buffer.write(body + b"\n")


def _body(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode()
    path = Path(data[1:])
    try:
        return path.read_bytes()
    except OSError as error:
        raise FoglineError(ErrorKind.NOT_FOUND, f"--data {data}: {error.strerror}") from error


def _pieces(id_: str, body: bytes) -> Iterator[operator.PredictRequest]:
    yield operator.PredictRequest(id=id_, body=body[:PIECE_BYTES])
    for begin in range(PIECE_BYTES, len(body), PIECE_BYTES):
        yield operator.PredictRequest(body=body[begin : begin + PIECE_BYTES])


def _refused(id_: str, status: int, body: bytes) -> NoReturn:
    try:
        sentence = str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError):
        sentence = body[:1000].decode(errors="replace") or "it said nothing"
    raise FoglineError(ErrorKind.FAILED, f"{id_} answered {status}: {sentence}")
