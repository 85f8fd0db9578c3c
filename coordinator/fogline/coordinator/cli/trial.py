"""`coord test`: the whole pipeline as one process on the user's own files, compared with what was expected."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fogline.coordinator.cli.output import say
from fogline.coordinator.core.graph import data_links, first_queues, topological
from fogline.coordinator.core.specs import Source, segment_spec
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.files import FILE
from fogline.coordinator.padl.model import Document
from fogline.runtimes.options import file_format
from fogline.runtimes.spec import ServingSpec
from fogline.wire.errors import CATALOGUE
from fogline.wire.terms import ErrorKind, FoglineError

TOLERANCE = 1e-6
"""Absolute and relative; a model's answers depend a little on the batch it sees."""
DIFFERENT = 1
FAILED = CATALOGUE[ErrorKind.FAILED].exit_code


def run_trial(
    document: Document,
    paths: Mapping[str, Path],
    records: Path | None,
    expect: Path | None,
    scratch: Path,
    python: str = sys.executable,
) -> int:
    """Run `records`, or what its own files hold, through the pipeline in `scratch`, by the interpreter `python`;
    returns the exit code of the command.

    Without `expect` what comes out goes straight to stdout.
    """
    options = _given(document, records)
    wanted = _lines(expect) if expect else None
    spec = scratch / "spec.json"
    spec.write_bytes(_whole_pipeline(document, paths))
    command = [python, "-m", "fogline.runtimes", "test", str(spec), *options]
    with open(os.devnull if options or not records else records, "rb") as stdin:
        if wanted is None:
            return FAILED if subprocess.run(command, stdin=stdin, check=False).returncode else 0
        done = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return FAILED
    got = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    difference = first_difference(got, wanted)
    say(difference or f"{len(got)} records, as expected")
    return DIFFERENT if difference else 0


def _given(document: Document, records: Path | None) -> list[str]:
    """What tells the runtime where the records are; nothing where they come by its standard input."""
    if records is None:
        if is_api(document):
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, "which records? --input FILE names them")
        others = [name for name in first_queues(document) if document.queues[name].connector != FILE]
        if others:
            sentence = f"which records? --input FILE names them, since queue {others[0]} is not a file"
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
        return ["--own-files"]
    if not records.is_file():
        raise FoglineError(ErrorKind.NOT_FOUND, f"--input {records}: no such file")
    return ["--input", str(records.absolute())] if file_format(str(records)) == "csv" else []


def _whole_pipeline(document: Document, paths: Mapping[str, Path]) -> bytes:
    order = tuple(topological(document.pipeline, data_links(document)))
    sources = {name: Source(path=str(path)) for name, path in paths.items()}
    spec = segment_spec(document, Segment(order[0], order, "", 0), "test", sources)
    files = tuple(each for each in spec.sources if each.connector == FILE)
    serving = ServingSpec("", 0, document.id) if is_api(document) else None
    return dataclasses.replace(spec, sources=files, sinks=(), serving=serving).to_bytes()


def first_difference(got: list[Any], wanted: list[Any]) -> str:
    """The first place where two lists of records differ, in words; empty when they agree."""
    for number, (a, b) in enumerate(zip(got, wanted, strict=False), 1):
        if not alike(a, b):
            return f"record {number} differs:\n  expected {json.dumps(b)}\n  got      {json.dumps(a)}"
    if len(got) != len(wanted):
        return f"{len(got)} records came out, {len(wanted)} were expected"
    return ""


def alike(a: Any, b: Any) -> bool:
    """Equal JSON values, numbers within the tolerance."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _lines(path: Path) -> list[Any]:
    if not path.is_file():
        raise FoglineError(ErrorKind.NOT_FOUND, f"--expect {path}: no such file")
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError as error:
                sentence = f"{path}:{number}: not JSON: {error}"
                raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence) from error
    return records
