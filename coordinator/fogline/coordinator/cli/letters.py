"""Records that failed for good: `coord dead-letters`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.moments import shown
from fogline.coordinator.cli.options import (
    DEFAULT_ADDRESS,
    CoordinatorOption,
    IdArgument,
    InsecureOption,
    OutputOption,
)
from fogline.coordinator.cli.output import Output, say
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import CATALOGUE, exit_code, refusal
from fogline.wire.terms import ErrorKind, FoglineError

NOT_FOUND = CATALOGUE[ErrorKind.NOT_FOUND].exit_code
FAILED = CATALOGUE[ErrorKind.FAILED].exit_code


class Action(StrEnum):
    """What can be done with dead letters."""

    LIST = "list"
    SHOW = "show"
    REPLAY = "replay"
    DISCARD = "discard"


@dataclass
class Answers:
    """What the nodes answered, and the exit code that the refusals among it ask for."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    """Nodes that could not answer."""
    exit_code: int = 0


def dead_letters(  # noqa: PLR0913  # one for each option
    id_: IdArgument,
    action: Annotated[Action, typer.Argument(metavar="[list|show|replay|discard]", help="What to do.")] = Action.LIST,
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[NODE/NUMBER]...", help="Which ones, as `list` names them.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Replay or discard every one.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="list: only the newest so many of each node; 0: all.")] = 0,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """List, show, replay or discard records that failed for good.

    Such a record is kept on the node where it failed, with its reason and exactly as it came. `replay` hands it to
    the running segment once more: it leaves the list when it goes through. A node that cannot answer hides no
    other; the exit code then says so (8), as it does when a letter is not there (3) or not taken (5).

    Example: coord dead-letters anomaly show edge_node/3
    """
    names = letters or []
    if action in {Action.REPLAY, Action.DISCARD} and bool(names) == all_:
        given = "both are given" if all_ else "none is given"
        sentence = f"{action} which dead letters? name them as NODE/NUMBER, or say --all for every one; {given}"
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
    request = operator.DeadLettersRequest(id=id_, action=action, letters=names, limit=limit)
    with connect(coordinator, insecure=insecure) as stub:
        answers = _collected(stub.DeadLetters(request))
    if action in {Action.LIST, Action.SHOW}:
        answers.rows.sort(key=lambda row: (row["last_at"], row["number"]), reverse=True)
    _judge(answers, action, names)
    if output_ is Output.JSON:
        output.print_json(answers.rows)
    else:
        _SHOW[action](answers.rows)
        if not answers.rows and not answers.exit_code:
            say("no dead letters")
    raise typer.Exit(answers.exit_code)


def _collected(replies: Any) -> Answers:
    """One row per line of an answer, with its node; refusals go to stderr."""
    answers, pieces = Answers(), dict[str, bytes]()
    for reply in replies:
        if reply.error:
            say(f"coord: node {reply.node}: {reply.error}")
            answers.silent.add(reply.node)
            answers.exit_code = answers.exit_code or exit_code(refusal(reply.error_kind, reply.error))
        pieces[reply.node] = pieces.get(reply.node, b"") + reply.data
    for node, lines in sorted(pieces.items()):
        for line in lines.splitlines():
            row = json.loads(line)
            name = {"letter": f"{node}/{row['number']}"} if "number" in row else {}
            answers.rows.append({"node": node} | name | row)
    return answers


def _judge(answers: Answers, action: Action, names: Sequence[str]) -> None:
    """Say which letters were not there or not taken."""
    code = 0
    if action is Action.SHOW:
        there = {row["letter"] for row in answers.rows}
        for name in names:
            if name not in there and name.partition("/")[0] not in answers.silent:
                say(f"coord: there is no dead letter {name}")
                code = NOT_FOUND
    for row in answers.rows:
        for refused in row.get("refused", []):
            say(f"coord: {row['node']}/{refused['number']} was not replayed: {refused['reason']}")
            code = FAILED
        asked = sum(name.partition("/")[0] == row["node"] for name in names)
        if action is Action.DISCARD and row.get("discarded", 0) < asked:
            say(f"coord: only {row['discarded']} of {asked} dead letters were there on {row['node']}")
            code = NOT_FOUND
    answers.exit_code = answers.exit_code or code


def _show_list(rows: list[dict[str, Any]]) -> None:
    keys = ("letter", "stage", "queue", "attempts", "last_at", "size_bytes", "reason")
    cells = [[shown(row[key]) if key == "last_at" else row[key] for key in keys] for row in rows]
    if rows:
        output.print_table(["LETTER", "STAGE", "QUEUE", "ATTEMPTS", "LAST", "BYTES", "REASON"], cells)


def _show_whole(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['letter']}: {row['reason']}")
        print(f"  failed in {row['stage']} of segment {row['segment']}, came from queue {row['queue']} as {row['id']}")
        print(f"  {row['attempts']} attempts, first {shown(row['first_at'])}, last {shown(row['last_at'])}")
        if row.get("trace"):
            print(textwrap.indent(row["trace"].rstrip("\n"), "    "))
        print(f"  payload, {row['size_bytes']} bytes{' in base64' if row['encoding'] == 'base64' else ''}:")
        print(textwrap.indent(row["payload"], "    ", lambda _: True))


def _show_replayed(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['node']}: {row['replayed']} handed to their segments; `list` shows those that fail again")


def _show_discarded(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['node']}: {row['discarded']} discarded")


_SHOW = {
    Action.LIST: _show_list,
    Action.SHOW: _show_whole,
    Action.REPLAY: _show_replayed,
    Action.DISCARD: _show_discarded,
}
