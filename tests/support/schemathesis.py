"""Schemathesis, from its own environment, against the document that a served segment gives of itself."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass

from support.clients import python_of

EXCLUDED = {
    "code": ("positive_data_acceptance",),  # JSON inside of strings: a schema cannot say that
    "two": ("negative_data_rejection",),  # one more than the largest INT64 rounds to it in a double
    "onnx": ("positive_data_acceptance",),  # it doubles: half of all numbers have no double
}


@dataclass(frozen=True)
class Verdict:
    """What it found."""

    cases: int
    passed: bool
    report: str


def verdict(framework: str, port: int, examples: int, timeout_s: float) -> Verdict:
    """Run it to its end: all of its checks but those that cannot hold for this kind of model."""
    command = [str(python_of("schemathesis").with_name("st")), "run", f"http://127.0.0.1:{port}/openapi.json"]
    command += ["--max-examples", str(examples), "--phases", "coverage,fuzzing", "--continue-on-failure"]
    for check in EXCLUDED.get(framework, ()):
        command += ["--exclude-checks", check]
    with tempfile.TemporaryDirectory() as folder:  # it leaves a cache where it runs
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=folder)
    found = re.search(r"(\d+) generated", done.stdout)
    return Verdict(int(found[1]) if found else 0, done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:])
