"""Commands about deployments: submit, list, status, stop, delete, logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import CALL_S, connect, upload
from fogline.coordinator.cli.documents import Ready, ask_plan, plan_json, read, show_plan
from fogline.coordinator.cli.options import (
    DEFAULT_ADDRESS,
    CoordinatorOption,
    FilesArgument,
    IdArgument,
    InsecureOption,
    OutputOption,
    SetOption,
)
from fogline.coordinator.cli.output import Output, say
from fogline.runtimes.spec import COUNTERS
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.errors import CATALOGUE
from fogline.wire.terms import ErrorKind

FAILED = CATALOGUE[ErrorKind.FAILED].exit_code
UNPLACEABLE = CATALOGUE[ErrorKind.UNPLACEABLE].exit_code
LOG_TAIL_BYTES = 256 * 1024
_BLOCK_BYTES = 2**20


def submit(
    files: FilesArgument,
    settings: SetOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the revision is accepted.")] = False,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Run a pipeline and follow it to a verdict.

    Prints the plan, uploads what is missing, submits. A document whose id is deployed already is a new revision
    of that deployment. Exit code 0 when it runs, 2 or 4 when the document or the plan forbids it, 5 when it
    failed to start.

    Example: coord submit pipeline.json site.json
    """
    ready = read(files, settings)
    with connect(coordinator, insecure=insecure) as stub:
        raise typer.Exit(submit_ready(stub, ready, detach=detach, output_=output_))


def submit_ready(stub: operator_grpc.OperatorCoordinatorStub, ready: Ready, *, detach: bool, output_: Output) -> int:
    """Plan, upload, submit, follow; returns the exit code."""
    reply, problems = ask_plan(stub, ready)
    result: dict[str, Any] = {"id": reply.id, "revision": None, "state": "refused", "succeeded": False}
    result |= {"verdict": "the plan has errors", "plan": plan_json(reply, problems), "stages": []}
    if output_ is Output.TABLE:
        show_plan(reply, problems)
    if any(problem.severity == "error" for problem in problems):
        code = UNPLACEABLE
    else:
        _upload_missing(stub, ready)
        result |= _accepted(stub, ready, detach=detach, quiet=output_ is Output.JSON)
        code = 0 if result["succeeded"] else FAILED
    if output_ is Output.JSON:
        output.print_json(result)
    elif code != UNPLACEABLE:
        print(f"pipeline {result['id']}: {result['verdict']}")
    return code


def _accepted(
    stub: operator_grpc.OperatorCoordinatorStub, ready: Ready, *, detach: bool, quiet: bool
) -> dict[str, Any]:
    """Hand the revision in and, unless detached, follow it to its verdict."""
    started_at = time.monotonic()
    accepted = stub.Submit(operator.SubmitRequest(**ready.request()), timeout=CALL_S)
    result: dict[str, Any] = {"revision": accepted.revision}
    if detach:
        verdict = f"revision {accepted.revision} accepted; follow it with `coord status {accepted.id}`"
        return result | {"state": "accepted", "succeeded": True, "verdict": verdict}
    status = follow(stub, accepted.id, accepted.revision, quiet=quiet)
    result |= {"state": status.state, "stages": stage_rows(status), "unchanged": accepted.unchanged}
    if accepted.unchanged:
        verdict = f"unchanged, revision {accepted.revision} goes on running"
        return result | {"succeeded": True, "verdict": verdict}
    took = f"{status.verdict} ({time.monotonic() - started_at:.1f} s)"
    return result | {"succeeded": status.succeeded, "verdict": took if status.succeeded else f"failed: {took}"}


def _upload_missing(stub: operator_grpc.OperatorCoordinatorStub, ready: Ready) -> None:
    digests = sorted(set(ready.resolved.artifacts.values()))
    missing = stub.MissingArtifacts(operator.MissingArtifactsRequest(digests=digests), timeout=CALL_S).digests
    for digest in missing:
        upload(stub, digest, _blocks(ready.resolved.blobs[digest]))
    if missing:
        say(f"uploaded {len(missing)} of {len(digests)} artifacts")


def _blocks(blob: bytes | Path) -> Iterator[bytes]:
    if isinstance(blob, bytes):
        yield blob
        return
    with blob.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


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


def list_(
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """List deployments.

    Example: coord list
    """
    with connect(coordinator, insecure=insecure) as stub:
        reply = stub.ListDeployments(operator.ListDeploymentsRequest(), timeout=CALL_S)
    rows = [
        {"id": each.id, "revision": each.revision, "state": each.state, "reason": each.reason}
        for each in reply.deployments
    ]
    if output_ is Output.JSON:
        output.print_json(rows)
    else:
        output.print_table(["ID", "REVISION", "STATE", "REASON"], [list(row.values()) for row in rows])


def status(
    id_: IdArgument,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Show a deployment, one row a stage.

    Counters are as of now. IN = DONE + FILTERED + DEAD + DROPPED + FLIGHT; AGAIN counts redelivered records. P50
    and P99 are from arrival in the segment to confirmation.

    Example: coord status anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Status(operator.StatusRequest(id=id_, fresh=True), timeout=CALL_S)
    if output_ is Output.JSON:
        output.print_json(status_json(found))
    else:
        show_status(found)


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
                "pid": stage.pid or None,
                "restarts": stage.restarts,
                **{name: counted.get(name, 0) for name in COUNTERS},
                "p50_s": stage.observed.p50_s,
                "p99_s": stage.observed.p99_s,
            }
        )
    return rows


def show_status(found: operator.DeploymentStatus) -> None:
    """The status for people."""
    print(f"pipeline {found.id}, revision {found.revision}: {found.state}{': ' + found.reason if found.reason else ''}")
    columns = ["STAGE", "NODE", "STATE", "PID", "RESTARTS", "IN", "OUT"]
    columns += ["DONE", "FILTERED", "DEAD", "DROPPED", "FLIGHT", "AGAIN", "P50", "P99"]
    counters = ("in", "out", "done", "filtered", "dead_lettered", "dropped", "in_flight", "redelivered")
    rows = [
        [row["name"], row["node"], row["state"], row["pid"] or "-", row["restarts"]]
        + [row[name] for name in counters]
        + [f"{row['p50_s'] * 1000:.1f} ms", f"{row['p99_s'] * 1000:.1f} ms"]
        for row in stage_rows(found)
    ]
    output.print_table(columns, rows)
    for reason in dict.fromkeys(f"{stage.segment}: {stage.reason}" for stage in found.stages if stage.reason):
        print(reason)


def stop(id_: IdArgument, coordinator: CoordinatorOption = DEFAULT_ADDRESS, insecure: InsecureOption = False) -> None:
    """Drain a deployment and stop it.

    From upstream to downstream. Broker sessions stay: what comes meanwhile waits, and a later submit goes on there.

    Example: coord stop anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Stop(operator.StopRequest(id=id_), timeout=CALL_S)
        found = follow(stub, found.id, 0)
    print(f"pipeline {found.id}: {found.state}{': ' + found.reason if found.reason else ''}")
    raise typer.Exit(0 if found.state == "stopped" else FAILED)


def delete(id_: IdArgument, coordinator: CoordinatorOption = DEFAULT_ADDRESS, insecure: InsecureOption = False) -> None:
    """Stop a deployment and forget it.

    Ends its broker sessions: what waits there for its stages is gone.

    Example: coord delete anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Status(operator.StatusRequest(id=id_), timeout=CALL_S)
        stub.Delete(operator.DeleteRequest(id=found.id))
    print(f"pipeline {found.id}: deleted")


def logs(
    id_: IdArgument,
    stage: Annotated[str, typer.Argument(metavar="[STAGE]", help="Only the segment that runs this stage.")] = "",
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Print what the stages printed.

    The end of each segment's log, fetched from its node.

    Example: coord logs anomaly preparation
    """
    found: dict[tuple[str, str], bytes] = {}
    with connect(coordinator, insecure=insecure) as stub:
        for reply in stub.Logs(operator.LogsRequest(id=id_, stage=stage, tail_bytes=LOG_TAIL_BYTES)):
            key = (reply.segment, reply.node)
            if key not in found and output_ is Output.TABLE and not stage:
                say(f"==> {reply.segment} on {reply.node}")
            found[key] = found.get(key, b"") + reply.data
            if output_ is Output.TABLE:
                sys.stdout.buffer.write(reply.data)
                sys.stdout.buffer.flush()
    if output_ is Output.JSON:
        texts = {key: log.decode(errors="replace") for key, log in found.items()}
        output.print_json([{"segment": segment, "node": node, "log": log} for (segment, node), log in texts.items()])
