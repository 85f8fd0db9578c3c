"""Commands about what was and what would be: get, history, diff, events."""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import CALL_S, connect
from fogline.coordinator.cli.documents import UNPLACEABLE, errors, read
from fogline.coordinator.cli.images import as_planned
from fogline.coordinator.cli.locking import as_known
from fogline.coordinator.cli.moments import SinceOption, iso, shown, since
from fogline.coordinator.cli.options import (
    DEFAULT_ADDRESS,
    BaseImageOption,
    CoordinatorOption,
    FilesArgument,
    IdArgument,
    InsecureOption,
    OutputOption,
    SetOption,
)
from fogline.coordinator.cli.output import Output, say
from fogline.coordinator.cli.planning import plan_json
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.terms import ErrorKind, FoglineError

DIFFERENT = 1
EVENTS_SHOWN = 100


def get(
    id_: IdArgument,
    revision: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of that revision; without it the one in charge.")
    ] = 0,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
) -> None:
    """Print the document of a deployment.

    As JSON, as it was after overlays and --set; passwords are never stored, so there are none.

    Example: coord get anomaly --revision 2 > pipeline.json
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.GetRevision(operator.GetRevisionRequest(id=id_, revision=revision), timeout=CALL_S)
    if not found.document:
        sentence = (
            f"the document of revision {found.number} of {found.id} is not known here: it was imported from the nodes "
            "that run it; submit the document again"
        )
        raise FoglineError(ErrorKind.NOT_FOUND, sentence)
    output.print_json(json.loads(found.document))


def history(
    id_: IdArgument,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """List every revision of a deployment.

    Newest last, with what became of each; * marks the one in charge.

    Example: coord history anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.History(operator.HistoryRequest(id=id_), timeout=CALL_S).revisions
    if output_ is Output.JSON:
        output.print_json([_revision_json(each) for each in found])
        return
    rows = [
        ["*" if each.in_charge else "", each.number, shown(each.created_at), each.state, each.verdict] for each in found
    ]
    output.print_table(["", "REVISION", "SUBMITTED", "STATE", "VERDICT"], rows)


def _revision_json(each: operator.Revision) -> dict[str, Any]:
    return {
        "revision": each.number,
        "submitted_at": iso(each.created_at),
        "state": each.state,
        "verdict": each.verdict,
        "in_charge": each.in_charge,
    }


def diff(
    files: FilesArgument,
    settings: SetOption = None,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    base_image: BaseImageOption = "",
    output_: OutputOption = Output.TABLE,
) -> None:
    """Show what a submit would change, and change nothing.

    The document against the one in charge, and what becomes of each segment: kept (its process goes on), restarted,
    moved, new or removed. Exit code 0 when nothing differs, 1 when something does, 2 or 4 as for submit.

    Example: coord diff pipeline.json site.json
    """
    ready = read(files, settings)
    with connect(coordinator, insecure=insecure) as stub:
        known = as_planned(as_known(stub, ready), base_image)
        plan, problems = known.reply, known.problems
        output.say_problems(problems)
        if errors(problems):
            raise typer.Exit(UNPLACEABLE)
        request = known.request()
        found = stub.Diff(request, timeout=CALL_S)
    names = ", ".join(str(file) for file in files)
    lines = document_diff(found.document, request.document, f"{found.id}, revision {found.revision}", names)
    segments = [
        {"segment": each.segment, "change": each.change, "node": each.node or None, "from": each.former_node or None}
        for each in found.segments
    ]
    equal = not lines and all(each["change"] == "kept" for each in segments)
    if output_ is Output.JSON:
        result = {"id": found.id, "revision": found.revision or None, "equal": equal, "document": lines}
        output.print_json(result | {"segments": segments, "plan": plan_json(plan, problems)})
    elif equal:
        say(f"{found.id}: nothing differs from revision {found.revision}")
    else:
        print("\n".join(lines), end="\n\n" if lines else "")
        rows = [[each["segment"], each["change"], each["node"] or "-", each["from"] or "-"] for each in segments]
        output.print_table(["SEGMENT", "CHANGE", "NODE", "WAS ON"], rows)
    raise typer.Exit(0 if equal else DIFFERENT)


def document_diff(before: bytes, after: bytes, before_name: str, after_name: str) -> list[str]:
    """A unified diff of two documents, keys in one order; none when they say the same. `before` may be empty."""
    old, new = (_canonical(document) for document in (before, after))
    return list(difflib.unified_diff(old, new, before_name if before else "nothing", after_name, lineterm=""))


def _canonical(document: bytes) -> list[str]:
    if not document:
        return []
    return json.dumps(json.loads(document), indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def events(  # noqa: PLR0913  # one for each option
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="Only of this deployment, also of a deleted one.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")] = False,
    since_: SinceOption = "",
    limit: Annotated[
        int | None,
        typer.Option(min=0, help=f"The newest so many, 0: all. Without it {EVENTS_SHOWN}, or all with --since."),
    ] = None,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Tell what happened.

    Submits, phases, verdicts, restarts and failures of stages, nodes that joined or went away; oldest first. The
    newest 10 000 are kept. With -f, `--output json` prints one object a line.

    Example: coord events anomaly --since 2h
    """
    moment = since(since_)
    newest = (0 if moment else EVENTS_SHOWN) if limit is None else limit
    request = operator.EventsRequest(id=id_, since=moment, limit=newest, follow=follow)
    found: list[dict[str, Any]] = []
    with connect(coordinator, insecure=insecure) as stub:
        try:
            for event in stub.Events(request):
                if output_ is Output.TABLE:
                    print(event_line(event), flush=True)
                elif follow:
                    print(json.dumps(_event_json(event), ensure_ascii=False), flush=True)
                else:
                    found.append(_event_json(event))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    if output_ is Output.JSON and not follow:
        output.print_json(found)


def event_line(event: operator.Event) -> str:
    """When, about what, what: `2026-01-31 12:00:00  anomaly/preparation on edge_node  copy: failed ...`."""
    about = "/".join(each for each in (event.deployment, event.segment) if each)
    where = f"node {event.node}" if not about else f"{about} on {event.node}" if event.node else about
    return f"{shown(event.at)}  {where:<32}  {event.kind:<9}  {event.text}"


def _event_json(event: operator.Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": iso(event.at),
        "kind": event.kind,
        "deployment": event.deployment or None,
        "revision": event.revision or None,
        "node": event.node or None,
        "segment": event.segment or None,
        "text": event.text,
    }
