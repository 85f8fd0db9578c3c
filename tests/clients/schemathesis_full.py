"""The full size of the fuzzing of `/openapi.json`: at least 5000 cases. `make fuzz`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from support.schemathesis import verdict
from support.served import code_served, onnx_stage, served, serving_all, sklearn_stage, two_inputs_stage

EXAMPLES, CASES, TIMEOUT_S = 1500, 5000, 3600.0


def main() -> int:
    """1 when a check did not hold, or too few cases ran."""
    with tempfile.TemporaryDirectory(prefix="fogline-fuzz-") as name:
        folder = Path(name)
        stages = {
            "sklearn": sklearn_stage(folder / "a"),
            "named": sklearn_stage(folder / "b", input=["a", "b", "c"]),
            "onnx": onnx_stage(folder / "c"),
            "two": two_inputs_stage(folder / "d"),
            "code": code_served(folder / "e", "def handler(data):\n    return data\n"),
        }
        found = {}
        with serving_all(folder / "work", {name: served(stage) for name, stage in stages.items()}) as running:
            for framework, each in running.items():
                found[framework] = verdict(framework, each.port, EXAMPLES, TIMEOUT_S)
                told = "all checks hold" if found[framework].passed else found[framework].report
                print(f"{framework}: {found[framework].cases} cases, {told}", flush=True)
    total = sum(each.cases for each in found.values())
    print(f"{total} cases")
    return int(total < CASES or not all(each.passed for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
