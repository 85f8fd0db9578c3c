"""Commands that look at documents: validate, plan, test, schema. Also: reading them for submit and run."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fogline.coordinator.artifacts.repository import pinned
from fogline.coordinator.artifacts.resolve import Resolved, resolve
from fogline.coordinator.artifacts.sharing import incompatible
from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import CALL_S, connect
from fogline.coordinator.cli.options import (
    DEFAULT_ADDRESS,
    CoordinatorOption,
    FilesArgument,
    InsecureOption,
    OutputOption,
    SetOption,
)
from fogline.coordinator.cli.trial import run_trial
from fogline.coordinator.padl.addresses import without_password
from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.files import anchored
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.parse import Loaded, load, without_passwords
from fogline.coordinator.padl.problems import Problem
from fogline.coordinator.padl.schema import schema
from fogline.coordinator.padl.verdict import judge
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.machine import machine_id

NAMED = 5
"""Nodes of a segment that are named; of more the number is told."""
INVALID = 2
UNPLACEABLE = 4


@dataclasses.dataclass(frozen=True)
class Ready:
    """Documents without errors, and the files they name."""

    loaded: Loaded
    document: Document
    resolved: Resolved
    warnings: list[Problem]

    def request(self) -> dict[str, Any]:
        """The fields that Plan and Submit share."""
        pairs = incompatible(self.document, self.resolved.paths)
        return {
            "document": json.dumps(without_passwords(self.loaded.raw)).encode(),
            "machine_id": machine_id(),
            "artifacts": self.resolved.artifacts,
            "incompatible": [operator.Incompatible(first=a, second=b, reason=why) for (a, b), why in pairs.items()],
        }


def look(
    files: Sequence[Path], settings: Sequence[str] | None, *, here: bool = False
) -> tuple[Ready | None, list[Problem]]:
    """Everything that can be said of documents and their files here; nothing is ready while there are errors.

    `settings` are the values of `--set`. `here`: all of it runs on this machine, whatever the document says.
    """
    loaded = load(list(files), settings or ())
    if here or (loaded.document and loaded.document.deploy_mode == "local"):
        loaded = anchored(loaded)
    problems = judge(loaded)
    if loaded.document is None or errors(problems):
        return None, problems
    resolved = resolve(loaded)
    problems = [*problems, *resolved.problems]
    if errors(problems):
        return None, problems
    loaded = pinned(loaded, resolved.commits)
    assert loaded.document is not None  # naming a commit spoils no document
    return Ready(loaded, loaded.document, resolved, problems), problems


def read(files: Sequence[Path], settings: Sequence[str] | None = None, *, here: bool = False) -> Ready:
    """Documents ready to be placed; prints what is wrong and exits 2 when they are not.

    `here`: all of it runs on this machine, whatever the document says.
    """
    ready, problems = look(files, settings, here=here)
    if ready is None:
        output.say_problems(problems)
        raise typer.Exit(INVALID)
    if here:
        ready.loaded.raw["deploy-mode"] = "local"
    for stage, commit in ready.resolved.commits.items():
        address = without_password(ready.document.pipeline[stage].props["path"])
        output.say(f"{stage}: code of {address} at commit {commit[:12]}")
    return ready


def validate(files: FilesArgument, settings: SetOption = None, output_: OutputOption = output.Output.TABLE) -> None:
    """Judge documents alone.

    Every problem is shown with its place, what is wrong and what would be right; no coordinator is asked. Exit
    code 0 when there are only warnings, 2 otherwise.

    Example: coord validate pipeline.json site.json
    """
    loaded = load(list(files), settings or ())
    # What is not built yet, or not on this machine, does not make a document wrong.
    later = loaded.placed(unavailable(loaded.document)) if loaded.document else []
    problems = [
        dataclasses.replace(each, severity="warning") if each in later else each
        for each in [*judge(loaded), *resolve(loaded, missing="warning").problems]
    ]
    valid = not errors(problems)
    if output_ is output.Output.JSON:
        output.print_json({"valid": valid, "problems": [output.problem_json(each) for each in problems]})
    else:
        output.say_problems(problems)
        warnings = len(problems) - len(errors(problems))
        print(f"{'valid' if valid else 'not valid'} (errors: {len(errors(problems))}, warnings: {warnings})")
    raise typer.Exit(0 if valid else INVALID)


def plan(
    files: FilesArgument,
    settings: SetOption = None,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = output.Output.TABLE,
) -> None:
    """Show what submit would do.

    Segments and their nodes, every wire with its guarantee, and for each segment why not elsewhere.

    Example: coord plan pipeline.json
    """
    ready, problems = look(files, settings)
    if ready is None:
        reply = operator.PlanReply()
    else:
        with connect(coordinator, insecure=insecure) as stub:
            reply, problems = ask_plan(stub, ready)
    if output_ is output.Output.JSON:
        output.print_json(plan_json(reply, problems))
    else:
        show_plan(reply, problems)
    raise typer.Exit(INVALID if ready is None else UNPLACEABLE if errors(problems) else 0)


def ask_plan(stub: operator_grpc.OperatorCoordinatorStub, ready: Ready) -> tuple[operator.PlanReply, list[Problem]]:
    """The coordinator's plan, its problems placed in the user's files."""
    reply = stub.Plan(operator.PlanRequest(**ready.request()), timeout=CALL_S)
    found = [
        Problem("error" if each.severity == "error" else "warning", each.pointer, each.message, each.hint)
        for each in reply.problems
    ]
    told = {(each.pointer, each.message) for each in ready.warnings}
    fresh = [each for each in found if (each.pointer, each.message) not in told]
    return reply, [*ready.warnings, *ready.loaded.placed(fresh)]


def _where(segment: operator.PlannedSegment) -> str:
    """Its node, or those of its copies."""
    nodes = list(segment.nodes) or [segment.node or "-"]
    return ", ".join(nodes[:NAMED]) + (f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else "")


def show_plan(reply: operator.PlanReply, problems: Sequence[Problem]) -> None:
    """The plan for people: segments and links on stdout, problems on stderr."""
    rows = [(each.name, " -> ".join(each.stages), _where(each)) for each in reply.segments]
    if rows:
        output.print_table(["SEGMENT", "STAGES", "NODE"], rows)
    for segment in reply.segments:
        for other in segment.passed_over:
            print(f"  {segment.name} not on {other.node}: {other.reason}")
    outside = "(outside)"
    links = [
        (
            each.name,
            each.address or each.connector,
            ", ".join(each.writers) or outside,
            ", ".join(each.readers) or outside,
            each.guarantee,
        )
        for each in reply.links
    ]
    if links:
        output.print_table(["LINK", "WIRE", "FROM", "TO", "GUARANTEE"], links)
    output.say_problems(problems)


def plan_json(reply: operator.PlanReply, problems: Sequence[Problem]) -> dict[str, Any]:
    """The stable shape of a plan."""
    return {
        "id": reply.id,
        "segments": [
            {
                "name": each.name,
                "stages": list(each.stages),
                "node": each.node or None,
                "nodes": list(each.nodes),
                "passed_over": [{"node": other.node, "reason": other.reason} for other in each.passed_over],
            }
            for each in reply.segments
        ],
        "links": [
            {
                "name": each.name,
                "connector": each.connector,
                "address": each.address,
                "writers": list(each.writers),
                "readers": list(each.readers),
                "guarantee": each.guarantee,
            }
            for each in reply.links
        ],
        "problems": [output.problem_json(each) for each in problems],
    }


def trial(
    files: FilesArgument,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Records for the first queue: a JSON value a line, or csv with a header."),
    ] = None,
    expect: Annotated[
        Path | None, typer.Option(help="Records the last queue must give; numbers may differ by 1e-6.")
    ] = None,
    settings: SetOption = None,
) -> None:
    """Try a pipeline on a file of records.

    The whole pipeline runs in one process, without broker or daemon. What leaves the last queue is printed, one
    JSON value a line. Without --input its first queues are read where they are files. An exception in your code is
    shown with its traceback at your line.

    Example: coord test pipeline.json --input sample.jsonl --expect out.jsonl
    """
    ready = read(files, settings, here=True)
    output.say_problems(ready.warnings)
    with tempfile.TemporaryDirectory(prefix="fogline-test-") as scratch:
        code = run_trial(ready.document, ready.resolved.paths, input_, expect, Path(scratch))
    raise typer.Exit(code)


def print_schema() -> None:
    """Print the JSON Schema of PADL.

    Editors complete and check documents with it.

    Example: coord schema > padl.schema.json
    """
    output.print_json(schema())


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those that forbid going on."""
    return [problem for problem in problems if problem.severity == "error"]
