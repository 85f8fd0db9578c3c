"""Commands that run deployments: submit, list, status, start, restart, stop, delete."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import CALL_S, connect
from fogline.coordinator.cli.documents import UNPLACEABLE, Ready, errors, read
from fogline.coordinator.cli.following import (
    FAILED,
    endpoint_rows,
    follow,
    show_endpoint,
    show_status,
    stage_rows,
    status_json,
)
from fogline.coordinator.cli.images import with_images
from fogline.coordinator.cli.locking import Settled, settle
from fogline.coordinator.cli.options import (
    DEFAULT_ADDRESS,
    BaseImageOption,
    CoordinatorOption,
    FilesArgument,
    IdArgument,
    InsecureOption,
    OutputOption,
    RegistryOption,
    SetOption,
    UpgradeOption,
)
from fogline.coordinator.cli.output import Output, say, teller
from fogline.coordinator.cli.planning import plan_json, show_nothing, show_plan
from fogline.coordinator.cli.uploading import Blob, upload_missing
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc

RUNS = {"running", "degraded"}


@dataclass(frozen=True)
class Submitting:
    """How a document is submitted."""

    detach: bool = False
    """Not followed to a verdict."""
    upgrade: bool = False
    again: bool = False
    """Both as in `settle`."""
    base_image: str = ""
    """As in `with_images`."""


def submit(  # noqa: PLR0913  # one for each option
    files: FilesArgument,
    settings: SetOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the revision is accepted.")] = False,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    upgrade: UpgradeOption = False,
    registry: RegistryOption = None,
    base_image: BaseImageOption = "",
    output_: OutputOption = Output.TABLE,
) -> None:
    """Run a pipeline and follow it to a verdict.

    Prints the plan, resolves packages that were not resolved before, uploads what is missing, submits. A document
    whose id is deployed already is a new revision of that deployment, with the packages it had where it asks for
    the same. Exit code 0 when it runs, 2 or 4 when the document or the plan forbids it, 5 when it
    failed to start.

    Example: coord submit pipeline.json site.json
    """
    ready = read(files, [*(settings or ()), *([f"registry.prefix={registry}"] if registry else [])])
    with connect(coordinator, insecure=insecure) as stub:
        how = Submitting(detach=detach, upgrade=upgrade, base_image=base_image)
        raise typer.Exit(submit_ready(stub, ready, how, output_=output_))


def submit_ready(
    stub: operator_grpc.OperatorCoordinatorStub,
    ready: Ready,
    how: Submitting = Submitting(),
    *,
    output_: Output,
) -> int:
    """Plan, resolve, upload, submit, follow; returns the exit code."""
    show = show_plan if output_ is Output.TABLE else show_nothing
    settled = settle(stub, ready, upgrade=how.upgrade, again=how.again, tell=teller(output_), show=show)
    reply, problems = settled.reply, settled.problems
    result: dict[str, Any] = {"id": reply.id, "revision": None, "state": "refused", "succeeded": False}
    result |= {"verdict": "the plan has errors", "plan": plan_json(reply, problems), "stages": []}
    result["endpoints"] = []
    if output_ is Output.TABLE:
        output.say_problems(settled.unresolved)
    if errors(problems):
        code = UNPLACEABLE
    else:
        upload_missing(stub, _artifacts(ready), "artifacts", teller(output_))
        settled = with_images(stub, settled, how.base_image, tell=teller(output_))
        result |= _accepted(stub, settled, detach=how.detach, quiet=output_ is Output.JSON)
        code = 0 if result["succeeded"] else FAILED
    if output_ is Output.JSON:
        output.print_json(result)
    elif code != UNPLACEABLE:
        print(f"pipeline {result['id']}: {result['verdict']}")
        show_endpoint(result["endpoints"])
    return code


def _accepted(
    stub: operator_grpc.OperatorCoordinatorStub, settled: Settled, *, detach: bool, quiet: bool
) -> dict[str, Any]:
    """Hand the revision in and, unless detached, follow it to its verdict."""
    started_at = time.monotonic()
    accepted = stub.Submit(settled.request(), timeout=CALL_S)
    result: dict[str, Any] = {"revision": accepted.revision}
    if detach and not accepted.unchanged:
        verdict = f"revision {accepted.revision} accepted; follow it with `coord status {accepted.id}`"
        return result | {"state": "accepted", "succeeded": True, "verdict": verdict}
    status = follow(stub, accepted.id, accepted.revision, quiet=quiet)
    result |= {"state": status.state, "stages": stage_rows(status), "unchanged": accepted.unchanged}
    result["endpoints"] = endpoint_rows(status)
    if accepted.unchanged:
        verdict = f"unchanged, revision {accepted.revision} goes on running"
        return result | {"succeeded": True, "verdict": verdict}
    took = f"{status.verdict} ({time.monotonic() - started_at:.1f} s)"
    return result | {"succeeded": status.succeeded, "verdict": took if status.succeeded else f"failed: {took}"}


def _artifacts(ready: Ready) -> dict[str, Blob]:
    names = {digest: stage for stage, digest in ready.resolved.artifacts.items()}
    return {digest: Blob(f"what {names[digest]} is", blob) for digest, blob in ready.resolved.blobs.items()}


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
    copies: Annotated[bool, typer.Option("--copies", help="A row for every copy of a stage, however many.")] = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Show a deployment, one row a stage.

    Of a stage with several copies the row is the sum of theirs; they follow it, of more than five only those that
    are not well.

    Counters are as of now. IN = DONE + FILTERED + DEAD + DROPPED + FLIGHT; AGAIN counts redelivered records. P50
    and P99 are from arrival in the segment to confirmation, RATE is records over the last 10 seconds.

    In API mode REQUESTS and ERRORS are what the stage's process has answered since it began, P50 and P99 of an
    answer; IN to FAILED count records.

    Example: coord status anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Status(operator.StatusRequest(id=id_, fresh=True), timeout=CALL_S)
    if output_ is Output.JSON:
        output.print_json(status_json(found))
    else:
        show_status(found, copies=copies)


DetachOption = Annotated[bool, typer.Option("--detach", help="Return at once instead of following to a verdict.")]


def start(
    id_: IdArgument,
    detach: DetachOption = False,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Run a stopped, failed or finished deployment again.

    With the document and on the nodes it had; what waits in the broker, or came into its files, is taken up. Follows
    to a verdict like submit: exit code 0 when it runs, 5 when it failed. One that runs already is left alone.

    Example: coord start anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Start(operator.StartRequest(id=id_), timeout=CALL_S)
        if found.settled and found.state in RUNS:
            _end(found, output_, f"runs already, revision {found.revision}", succeeded=True)
        if detach:
            _end(found, output_, f"starting; follow it with `coord status {found.id}`", succeeded=True)
        found = follow(stub, found.id, 0, quiet=output_ is Output.JSON)
    _end(found, output_, found.verdict if found.succeeded else f"failed: {found.verdict}", succeeded=found.succeeded)


def restart(
    id_: IdArgument,
    stage: Annotated[str, typer.Argument(metavar="[STAGE]", help="Only the segment that runs this stage.")] = "",
    detach: DetachOption = False,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Replace the processes of a running deployment.

    Each is drained and started again with the same code and models, on the same node; one that had failed is
    started once more. Exit code 0 when everything runs afterwards, 5 when something does not.

    Example: coord restart anomaly detector
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Restart(operator.RestartRequest(id=id_, stage=stage), timeout=CALL_S)
        if detach:
            _end(found, output_, f"restarting; follow it with `coord status {found.id}`", succeeded=True)
        found = follow(stub, found.id, 0, quiet=output_ is Output.JSON)
    verdict = f"restarted, revision {found.revision} is running" if found.succeeded else f"failed: {found.verdict}"
    _end(found, output_, verdict, succeeded=found.succeeded)


def stop(
    id_: IdArgument,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Drain a deployment and stop it.

    From upstream to downstream. Broker sessions and dead letters stay: what comes meanwhile waits, and `coord
    start` or a later submit goes on there.

    Example: coord stop anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Stop(operator.StopRequest(id=id_), timeout=CALL_S)
        found = follow(stub, found.id, 0, quiet=output_ is Output.JSON)
    verdict = f"{found.state}{': ' + found.reason if found.reason else ''}"
    _end(found, output_, verdict, succeeded=found.state == "stopped")


def delete(
    id_: IdArgument,
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """Stop a deployment and forget it.

    Ends its broker sessions and removes its dead letters: what waits for its stages is gone. How far its files were
    read is forgotten. `coord events` still tells of it.

    Example: coord delete anomaly
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.Status(operator.StatusRequest(id=id_), timeout=CALL_S)
        left_on = list(stub.Delete(operator.DeleteRequest(id=found.id)).letters_left_on)
    if left_on:
        say(f"its dead letters on {', '.join(left_on)} are removed when that node is back")
    if output_ is Output.JSON:
        output.print_json({"id": found.id, "deleted": True, "dead_letters_left_on": left_on})
    else:
        print(f"pipeline {found.id}: deleted")


def _end(found: operator.DeploymentStatus, output_: Output, verdict: str, *, succeeded: bool) -> NoReturn:
    """Print how it ended, and end with the exit code of that."""
    if output_ is Output.JSON:
        output.print_json(status_json(found) | {"succeeded": succeeded, "verdict": verdict})
    else:
        print(f"pipeline {found.id}: {verdict}")
        show_endpoint(endpoint_rows(found) if succeeded else [])
    raise typer.Exit(0 if succeeded else FAILED)
