"""What the stages printed: `coord logs`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.moments import SinceOption, since
from fogline.coordinator.cli.options import (
    DEFAULT_ADDRESS,
    CoordinatorOption,
    IdArgument,
    InsecureOption,
    OutputOption,
)
from fogline.coordinator.cli.output import Output, say
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import exit_code, refusal

TAIL_BYTES = 256 * 1024


def logs(  # noqa: PLR0913  # one for each option
    id_: IdArgument,
    stage: Annotated[str, typer.Argument(metavar="[STAGE]", help="Only the segment that runs this stage.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed from now on.")] = False,
    since_: SinceOption = "",
    tail: Annotated[int, typer.Option(min=0, help="Only the last so many lines of each segment; 0: all.")] = 0,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Print what the stages printed.

    The end of each segment's log (at most 256 KiB), fetched from its node, segment by segment. With -f all segments
    are followed at once, over restarts of stages, agents and nodes; without a stage each line then begins with its
    segment. With -f, `--output json` prints one object a line.

    Example: coord logs anomaly preparation -f --tail 20
    """
    request = operator.LogsRequest(
        id=id_, stage=stage, tail_bytes=TAIL_BYTES, tail_lines=tail, since=since(since_), follow=follow
    )
    printer = LogPrinter(merged=follow, prefix=not stage, json_=output_ is Output.JSON)
    with connect(coordinator, insecure=insecure) as stub:
        try:
            for reply in stub.Logs(request):
                printer.take(reply)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    raise typer.Exit(printer.end())


class LogPrinter:
    """Prints pieces of logs as they come; each piece is whole lines of one segment."""

    def __init__(self, *, merged: bool, prefix: bool, json_: bool) -> None:
        self._merged = merged
        self._prefix = prefix
        self._json = json_
        self._exit_code = 0
        self._shown = ""
        self._logs: dict[tuple[str, str], dict[str, Any]] = {}

    def take(self, reply: operator.LogsReply) -> None:
        """A piece, a notice or a refusal."""
        if reply.notice:
            say(f"==> {reply.notice}")
        elif reply.error:
            self._exit_code = self._exit_code or exit_code(refusal(reply.error_kind, reply.error))
            say(f"coord: {reply.segment} on {reply.node}: {reply.error}")
            self._entry(reply)["error"] = reply.error
        elif self._merged:
            self._lines(reply)
        elif self._json:
            self._entry(reply)["log"] += reply.data.decode(errors="replace")
        else:
            self._whole(reply)

    def end(self) -> int:
        """Print what is left; the exit code of the command."""
        if self._json and not self._merged:
            output.print_json(list(self._logs.values()))
        return self._exit_code

    def _entry(self, reply: operator.LogsReply) -> dict[str, Any]:
        fresh = {"segment": reply.segment, "node": reply.node, "log": "", "error": ""}
        return self._logs.setdefault((reply.segment, reply.node), fresh)

    def _whole(self, reply: operator.LogsReply) -> None:
        where = f"{reply.segment} on {reply.node}"
        if where != self._shown:
            say(f"==> {where}")
            self._shown = where
        sys.stdout.buffer.write(reply.data)
        sys.stdout.buffer.flush()

    def _lines(self, reply: operator.LogsReply) -> None:
        for line in reply.data.decode(errors="replace").splitlines():
            if self._json:
                print(json.dumps({"segment": reply.segment, "node": reply.node, "line": line}, ensure_ascii=False))
            else:
                print(f"{reply.segment} | {line}" if self._prefix else line)
        sys.stdout.flush()
