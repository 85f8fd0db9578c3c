"""Following a deployment to where it settles, and the shapes of its status."""

from __future__ import annotations

from typing import Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.output import say
from fogline.runtimes.spec import COUNTERS
from fogline.v1 import common_pb2 as common
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.errors import CATALOGUE
from fogline.wire.terms import ErrorKind

FAILED = CATALOGUE[ErrorKind.FAILED].exit_code


def follow(
    stub: operator_grpc.OperatorCoordinatorStub, id_: str, revision: int, *, quiet: bool = False
) -> operator.DeploymentStatus:
    """Print what changes until there is a verdict on the revision (0: until nothing more happens by itself)."""
    last = ""
    status = operator.DeploymentStatus()
    try:
        for status in stub.Watch(operator.WatchRequest(id=id_, revision=revision)):
            line = _progress(status)
            if line != last and not quiet:
                say(line)
            last = line
    except KeyboardInterrupt:
        say(f"no longer following; it goes on: `coord status {id_}` shows how, `coord stop {id_}` ends it")
        raise typer.Exit(130) from None
    return status


def _progress(status: operator.DeploymentStatus) -> str:
    parts = []
    for stage in status.stages:
        busy = stage.progress or stage.reason
        parts.append(f"{stage.name} {stage.state}" + (f" ({busy})" if busy else ""))
    return f"  {status.state}: " + ", ".join(parts)


def status_json(found: operator.DeploymentStatus) -> dict[str, Any]:
    """The stable shape of a status."""
    return {
        "id": found.id,
        "revision": found.revision,
        "state": found.state,
        "reason": found.reason,
        "stages": stage_rows(found),
    }


def stage_rows(found: operator.DeploymentStatus) -> list[dict[str, Any]]:
    """One row per stage, counters under their own names, times in seconds."""
    rows = []
    for stage in found.stages:
        counted = stage.observed.counters
        rows.append(
            {
                "name": stage.name,
                "segment": stage.segment,
                "node": stage.node,
                "state": stage.state,
                "reason": stage.reason,
                "progress": stage.progress,
                "last_lines": stage.last_lines,
                "pid": stage.pid or None,
                "restarts": stage.restarts,
                **{name: counted.get(name, 0) for name in COUNTERS},
                "p50_s": stage.observed.p50_s,
                "p99_s": stage.observed.p99_s,
                **_behind(stage.observed),
            }
        )
    return rows


def _behind(observed: common.StageObserved) -> dict[str, Any]:
    """How far behind a stage is: records in all its queues, the oldest of any; None where it is not known."""
    reads = [
        {
            "queue": each.queue,
            "lag": each.lag if each.HasField("lag") else None,
            "oldest_s": each.oldest_s if each.HasField("oldest_s") else None,
        }
        for each in observed.readings
    ]
    lags = [each["lag"] for each in reads if each["lag"] is not None]
    ages_s = [each["oldest_s"] for each in reads if each["oldest_s"] is not None]
    return {"lag": sum(lags) if lags else None, "oldest_s": max(ages_s, default=None), "reads": reads}


def _behind_columns(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Only those that say something: the table is wide."""
    cells = {
        "LAG": ["-" if row["lag"] is None else str(row["lag"]) for row in rows],
        "OLDEST": ["-" if row["oldest_s"] is None else f"{row['oldest_s']:.1f} s" for row in rows],
    }
    return {column: found for column, found in cells.items() if set(found) != {"-"}} if rows else {}


def show_status(found: operator.DeploymentStatus) -> None:
    """The status for people: one row a stage, then what is wrong with each segment and its last words."""
    print(f"pipeline {found.id}, revision {found.revision}: {found.state}{': ' + found.reason if found.reason else ''}")
    columns = ["STAGE", "NODE", "STATE", "PID", "RESTARTS", "IN", "OUT"]
    columns += ["DONE", "FILTERED", "DEAD", "DROPPED", "FLIGHT", "AGAIN", "P50", "P99"]
    counters = ("in", "out", "done", "filtered", "dead_lettered", "dropped", "in_flight", "redelivered")
    found_rows = stage_rows(found)
    behind = _behind_columns(found_rows)
    rows = [
        [row["name"], row["node"], row["state"], row["pid"] or "-", row["restarts"]]
        + [row[name] for name in counters]
        + [f"{row['p50_s'] * 1000:.1f} ms", f"{row['p99_s'] * 1000:.1f} ms"]
        + [cells[number] for cells in behind.values()]
        for number, row in enumerate(found_rows)
    ]
    output.print_table([*columns, *behind], rows)
    for segment, stage in {each.segment: each for each in found.stages}.items():
        if stage.reason or stage.progress:
            print(f"{segment}: {'; '.join(each for each in (stage.reason, stage.progress) if each)}")
        if stage.last_lines:
            print(f"{segment}, last lines of its log (`coord logs {found.id} {stage.name}` shows more):")
            print("\n".join(f"    {line}" for line in stage.last_lines.splitlines()))
    if dead := sum(stage.observed.counters.get("dead_lettered", 0) for stage in found.stages):
        print(f"{dead} dead-lettered: `coord dead-letters {found.id} list` shows those that are still there")
