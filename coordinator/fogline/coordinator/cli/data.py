"""Commands about records: send and tap."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer

from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.options import DEFAULT_ADDRESS, CoordinatorOption, IdArgument, InsecureOption
from fogline.coordinator.cli.output import say
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.channel import CHUNK_BYTES
from fogline.wire.terms import ErrorKind, FoglineError


def send(
    id_: IdArgument,
    file: Annotated[
        Path, typer.Argument(metavar="[FILE|-]", help="JSON records, one a line; - is standard input.")
    ] = Path("-"),
    queue: Annotated[str, typer.Option(help="A queue the pipeline reads; without it, its first queue.")] = "",
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
) -> None:
    """Put records into the first queue.

    Each is confirmed by the broker; a slow source is sent live.

    Example: coord send anomaly records.jsonl
    """
    if str(file) == "-":
        confirmed = _send(id_, queue, sys.stdin.buffer, "standard input", coordinator, insecure)
    else:
        if not file.is_file():
            raise FoglineError(ErrorKind.NOT_FOUND, f"{file}: no such file")
        with file.open("rb") as lines:
            confirmed = _send(id_, queue, lines, str(file), coordinator, insecure)
    say(f"{confirmed} records confirmed")


def _send(id_: str, queue: str, lines: BinaryIO, name: str, coordinator: str, insecure: bool) -> int:
    problems: list[FoglineError] = []

    def requests() -> Iterator[operator.SendRequest]:
        yield operator.SendRequest(id=id_, queue=queue)
        for chunk in _chunks(lines, name, problems):
            yield operator.SendRequest(lines=chunk)

    with connect(coordinator, insecure=insecure) as stub:
        confirmed = stub.Send(requests()).confirmed
    if problems:
        say(f"{confirmed} records confirmed before that")
        raise problems[0]
    return int(confirmed)


def _chunks(source: BinaryIO, name: str, problems: list[FoglineError]) -> Iterator[bytes]:
    """Whole lines, as many at once as have come, so that a slow source is sent live.

    At the first line that is not JSON the rest stays behind and `problems` says where.
    """
    number, rest = 0, b""
    while data := _arrived(source):
        *lines, rest = (rest + data).split(b"\n")
        good = bytearray()
        for line in lines:
            number += 1
            if problem := _not_json(line, f"{name}:{number}"):
                problems.append(problem)
                break
            good += line + b"\n"
        if good.strip():
            yield bytes(good)
        if problems:
            return
    if problem := _not_json(rest, f"{name}:{number + 1}"):
        problems.append(problem)
    elif rest.strip():
        yield rest + b"\n"


def _arrived(source: BinaryIO) -> bytes:
    """What a read brings without waiting for more; empty at the end."""
    assert isinstance(source, io.BufferedReader)
    return source.read1(CHUNK_BYTES)


def _not_json(line: bytes, place: str) -> FoglineError | None:
    if not line.strip():
        return None
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return FoglineError(ErrorKind.INVALID_ARGUMENT, f"{place}: not JSON: {error}")
    return None


def tap(
    id_: IdArgument,
    queue: Annotated[
        str,
        typer.Argument(
            metavar="[QUEUE]", help="A queue, a stage (what it writes) or a link a..b; else the last queue."
        ),
    ] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="End after so many records; 0: never.")] = 0,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
) -> None:
    """Watch records as they pass.

    One JSON value a line; works on links in memory too. Under load some are left out.

    Example: coord tap anomaly q2 --count 5
    """
    with connect(coordinator, insecure=insecure) as stub:
        try:
            for reply in stub.Tap(operator.TapRequest(id=id_, queue=queue, count=count)):
                sys.stdout.buffer.write(reply.data)
                sys.stdout.buffer.flush()
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
