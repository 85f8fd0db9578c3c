"""`coord plan`, and how a plan is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.documents import INVALID, UNPLACEABLE, errors, look
from fogline.coordinator.cli.locking import settle
from fogline.coordinator.cli.options import (
    DEFAULT_ADDRESS,
    CoordinatorOption,
    FilesArgument,
    InsecureOption,
    OutputOption,
    SetOption,
    UpgradeOption,
)
from fogline.coordinator.padl.problems import Problem
from fogline.v1 import operator_coordinator_pb2 as operator

NAMED = 5
"""Nodes of a segment that are named; of more the number is told."""


def plan(
    files: FilesArgument,
    settings: SetOption = None,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    upgrade: UpgradeOption = False,
    output_: OutputOption = output.Output.TABLE,
) -> None:
    """Show what submit would do.

    Segments and their nodes, every wire with its guarantee, and for each segment why not elsewhere. Packages that
    stages ask for are resolved and stored for the nodes they are planned on, so that a submit finds them there;
    nothing is run.

    Example: coord plan pipeline.json
    """
    reply = operator.PlanReply()
    ready, problems = look(files, settings)
    if ready is not None:
        with connect(coordinator, insecure=insecure) as stub:
            settled = settle(stub, ready, upgrade=upgrade, tell=output.teller(output_), show=show_nothing)
        reply, problems = settled.reply, settled.problems
    if output_ is output.Output.JSON:
        output.print_json(plan_json(reply, problems))
    else:
        show_plan(reply, problems)
    raise typer.Exit(INVALID if ready is None else UNPLACEABLE if errors(problems) else 0)


def show_nothing(reply: operator.PlanReply, problems: Sequence[Problem]) -> None:
    """Where it is shown once it is settled."""


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
