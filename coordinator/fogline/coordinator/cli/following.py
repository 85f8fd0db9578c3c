"""Following a deployment to where it settles, and the shapes of its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.behind import behind, together
from fogline.coordinator.cli.behind import columns as behind_columns
from fogline.coordinator.cli.output import say
from fogline.runtimes.spec import COUNTERS
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.errors import CATALOGUE
from fogline.wire.terms import ErrorKind

UNFOLDED = 5
"""So many copies of a stage have a row each without being asked for."""
READING = {
    "in": "IN",
    "out": "OUT",
    "done": "DONE",
    "filtered": "FILTERED",
    "dead_lettered": "DEAD",
    "dropped": "DROPPED",
    "in_flight": "FLIGHT",
    "redelivered": "AGAIN",
}
"""Counter -> its column."""
ANSWERING = {
    "requests": "REQUESTS",
    "errors": "ERRORS",
    "in": "IN",
    "out": "OUT",
    "filtered": "FILTERED",
    "dropped": "FAILED",
}
"""The same in API mode: what failed is dropped, since the caller has the error; nothing waits or comes again."""
MOVING = {"ready", "draining"}
"""What is in none of these has counted something, and does so no more."""
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
    for name, copies in _by_stage(status).items():
        busy = next((each.progress or each.reason for each in copies if each.progress or each.reason), "")
        parts.append(f"{name} {_state(copies)}" + (f" ({busy})" if busy else ""))
    return f"  {status.state}: " + ", ".join(parts)


def _by_stage(status: operator.DeploymentStatus) -> dict[str, list[operator.StageStatus]]:
    found: dict[str, list[operator.StageStatus]] = {}
    for stage in status.stages:
        found.setdefault(stage.name, []).append(stage)
    return found


def _state(copies: Sequence[operator.StageStatus]) -> str:
    """That of all copies; where they differ how many are how."""
    states = Counter(each.state for each in copies)
    if len(states) == 1:
        return copies[0].state
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def status_json(found: operator.DeploymentStatus) -> dict[str, Any]:
    """The stable shape of a status."""
    return {
        "id": found.id,
        "revision": found.revision,
        "state": found.state,
        "reason": found.reason,
        "endpoints": endpoint_rows(found),
        "stages": stage_rows(found),
    }


def endpoint_rows(found: operator.DeploymentStatus) -> list[dict[str, Any]]:
    """In API mode where it is called, then where its other segments are; empty in stream mode."""
    return [{"segment": each.segment, "url": each.url, "models": list(each.models)} for each in found.endpoints]


def show_endpoint(endpoints: Sequence[Mapping[str, Any]]) -> None:
    """Where the pipeline is called, if it is: the first of these rows."""
    for each in endpoints[:1]:
        print(f"endpoint {each['url']} (models: {', '.join(each['models'])})")


def stage_rows(found: operator.DeploymentStatus) -> list[dict[str, Any]]:
    """One row per stage, counters under their own names, times in seconds. Of several copies the sum, with a row of
    each under `copies`."""
    rows = []
    for name, copies in _by_stage(found).items():
        each = [_row(copy) for copy in copies]
        if len(copies) == 1 and not _is_one_of_many(copies[0]):
            rows += each
            continue
        summed = {key: sum(row[key] for row in each) for key in (*COUNTERS, "rate", "requests", "errors")}
        slowest = {key: max(row[key] for row in each) for key in ("p50_s", "p99_s")}
        head = each[0] | {"name": name, "segment": copies[0].segment.partition("/")[0]}
        told = next((row for row in each if row["reason"] or row["progress"]), each[0])
        rows.append(
            head
            | {"node": _where(each), "state": _state(copies), "pid": None}
            | {"restarts": sum(row["restarts"] for row in each)}
            | {key: told[key] for key in ("reason", "progress", "last_lines")}
            | summed
            | slowest
            | together(each)
            | {"copies": each}
        )
    return rows


def _is_one_of_many(copy: operator.StageStatus) -> bool:
    return bool(copy.replica) and not copy.replica.isdigit()


def _where(rows: Sequence[dict[str, Any]]) -> str:
    return rows[0]["node"] if len(rows) == 1 else f"{len(rows)} copies"


def _row(stage: operator.StageStatus) -> dict[str, Any]:
    counted = stage.observed.counters
    return {
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
        "rate": stage.observed.rate if stage.state in MOVING else 0.0,
        "requests": stage.observed.requests,
        "errors": stage.observed.errors,
        **behind(stage.observed),
    }


def _unfolded(rows: Sequence[dict[str, Any]], *, every: bool) -> Iterator[dict[str, Any]]:
    """Behind the sum a row of each copy, unless they are many and not all are asked for: then of those that are not
    well."""
    for row in rows:
        yield row | {"shown": row["name"]}
        copies = row.get("copies", [])
        for copy in copies:
            if every or len(copies) <= UNFOLDED or copy["state"] not in {"ready", "finished"}:
                yield copy | {"shown": f"  {copy['segment']}"}


def _rate(rate: float) -> str:
    """Records per second."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def show_status(found: operator.DeploymentStatus, *, copies: bool = False) -> None:
    """The status for people: one row a stage, then what is wrong with each segment and its last words."""
    print(f"pipeline {found.id}, revision {found.revision}: {found.state}{': ' + found.reason if found.reason else ''}")
    show_endpoint(endpoint_rows(found))
    shown_counters = ANSWERING if found.endpoints else READING
    columns = ["STAGE", "NODE", "STATE", "PID", "RESTARTS", *shown_counters.values(), "RATE", "P50", "P99"]
    shown = list(_unfolded(stage_rows(found), every=copies))
    more = behind_columns(shown)
    rows = [
        [row["shown"], row["node"], row["state"], row["pid"] or "-", row["restarts"]]
        + [row[name] for name in shown_counters]
        + [_rate(row["rate"]), f"{row['p50_s'] * 1000:.1f} ms", f"{row['p99_s'] * 1000:.1f} ms"]
        + [cells[number] for cells in more.values()]
        for number, row in enumerate(shown)
    ]
    output.print_table([*columns, *more], rows)
    for segment, stage in {each.segment: each for each in found.stages}.items():
        if stage.reason or stage.progress:
            print(f"{segment}: {'; '.join(each for each in (stage.reason, stage.progress) if each)}")
        if stage.last_lines:
            print(f"{segment}, last lines of its log (`coord logs {found.id} {stage.name}` shows more):")
            print("\n".join(f"    {line}" for line in stage.last_lines.splitlines()))
    if dead := sum(stage.observed.counters.get("dead_lettered", 0) for stage in found.stages):
        print(f"{dead} dead-lettered: `coord dead-letters {found.id} list` shows those that are still there")
