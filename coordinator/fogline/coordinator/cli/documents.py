"""Commands that look at documents: validate, test, schema. Also: reading them for submit and run."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fogline.coordinator.artifacts.beside import unmet
from fogline.coordinator.artifacts.environment import interpreter
from fogline.coordinator.artifacts.mlflow import completed
from fogline.coordinator.artifacts.repository import pinned
from fogline.coordinator.artifacts.resolve import Resolved, resolve
from fogline.coordinator.artifacts.sharing import incompatible
from fogline.coordinator.cli import output
from fogline.coordinator.cli.options import FilesArgument, OutputOption, SetOption, UpgradeOption
from fogline.coordinator.cli.trial import run_trial
from fogline.coordinator.core.needs import Need, needs_without_queues
from fogline.coordinator.padl.addresses import without_password
from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.files import anchored
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.parse import Loaded, load, without_passwords
from fogline.coordinator.padl.problems import Problem
from fogline.coordinator.padl.schema import schema
from fogline.coordinator.padl.verdict import judge
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.machine import machine_id

INVALID = 2
UNPLACEABLE = 4


@dataclasses.dataclass(frozen=True)
class Ready:
    """Documents without errors, and the files they name."""

    loaded: Loaded
    document: Document
    resolved: Resolved
    warnings: list[Problem]
    apart: tuple[operator.Incompatible, ...] = ()
    """Stages that cannot share an environment: found while their packages were resolved."""

    def request(self) -> dict[str, Any]:
        """The fields that Plan and Submit share."""
        pairs = incompatible(self.document, self.resolved.paths)
        parted = [operator.Incompatible(first=a, second=b, reason=why) for (a, b), why in pairs.items()]
        return {
            "document": json.dumps(without_passwords(self.loaded.raw)).encode(),
            "machine_id": machine_id(),
            "artifacts": self.resolved.artifacts,
            "incompatible": [*parted, *self.apart],
        }


def look(
    files: Sequence[Path], settings: Sequence[str] | None, *, here: bool = False
) -> tuple[Ready | None, list[Problem]]:
    """Everything that can be said of documents and their files here; nothing is ready while there are errors.

    `settings` are the values of `--set`. `here`: all of it runs on this machine, whatever the document says.
    """
    loaded = completed(load(list(files), settings or ()))
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
    loaded = completed(load(list(files), settings or ()))
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
    upgrade: UpgradeOption = False,
) -> None:
    """Try a pipeline on a file of records.

    The whole pipeline runs in one process, without broker or daemon; in an environment of its own where it needs
    packages that are not installed beside coord. What leaves the last queue is printed, one
    JSON value a line. Without --input its first queues are read where they are files. An exception in your code is
    shown with its traceback at your line.

    Example: coord test pipeline.json --input sample.jsonl --expect out.jsonl
    """
    ready = read(files, settings, here=True)
    output.say_problems(ready.warnings)
    if any(map(ready.document.contains, ready.document.pipeline.values())):
        output.say("tried without containers, which give the same records: coord run has them")
    needs = needs_without_queues(ready.document, list(ready.document.pipeline), ready.resolved.requirements)
    python = str(interpreter(needs, output.say, upgrade=upgrade)) if apart_from_coord(needs) else sys.executable
    with tempfile.TemporaryDirectory(prefix="fogline-test-") as scratch:
        code = run_trial(ready.document, ready.resolved.paths, input_, expect, Path(scratch), python)
    raise typer.Exit(code)


def apart_from_coord(needs: Sequence[Need]) -> bool:
    """Whether stages need an environment of their own; says so and why, unless they need nothing of their own."""
    if why := unmet(needs):
        output.say(f"needs {why}: running in an environment of its own")
    elif any(need.stage for need in needs):
        output.say("everything that its stages need is installed beside coord: running in coord's environment")
    return bool(why)


def print_schema() -> None:
    """Print the JSON Schema of PADL.

    Editors complete and check documents with it.

    Example: coord schema > padl.schema.json
    """
    output.print_json(schema())


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those that forbid going on."""
    return [problem for problem in problems if problem.severity == "error"]
