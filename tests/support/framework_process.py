"""A framework whose library the environment of the tests does not hold: loaded and run in a process that has it.

As a program it answers JSON lines; `FrameworkProcess` is its other end.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from fogline.runtimes import registry
from fogline.runtimes.errors import BadMessage, StageUnusable
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.frameworks.signature import Tensor
from fogline.runtimes.spec import StageSpec


class FrameworkProcess:
    """One process for any number of stages: the library is imported once."""

    def __init__(self, python: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        argv = [str(python), "-m", "support.framework_process"]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )

    def __enter__(self) -> FrameworkProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=20)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer


class Remote(Framework):
    """A stage in that process, as if it were in this one."""

    def __init__(self, stage: StageSpec, artifacts: Path, process: FrameworkProcess) -> None:
        super().__init__(stage, artifacts)
        self._process = process

    def load(self) -> None:
        answer = self._process.ask({"load": dataclasses.asdict(self.stage), "artifacts": str(self.artifacts)})
        if "unusable" in answer:
            raise StageUnusable(*answer["unusable"])
        self.inputs = tuple(Tensor(name, kind, tuple(shape)) for name, kind, shape in answer["inputs"])
        self._number = answer["number"]

    def process(self, records: list[Any]) -> list[Result]:
        results = self._process.ask({"process": self._number, "records": records})["results"]
        return [Failed(BadMessage(each)) if isinstance(each, str) else each for each in results]


def main() -> None:
    loaded: list[Framework] = []
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            answer = _load(request, loaded)
        else:
            results = loaded[request["process"]].process(request["records"])
            answer = {"results": [_reason(each) if isinstance(each, Failed) else each for each in results]}
        print(json.dumps(answer), flush=True)


def _load(request: dict[str, Any], loaded: list[Framework]) -> dict[str, Any]:
    made = registry.framework(StageSpec(**request["load"]), Path(request["artifacts"]))
    try:
        made.load()
    except StageUnusable as error:
        return {"unusable": [error.stage, error.reason]}
    loaded.append(made)
    return {"number": len(loaded) - 1, "inputs": [dataclasses.astuple(each) for each in made.inputs]}


def _reason(failed: Failed) -> str:
    assert isinstance(failed.error, BadMessage), failed.error
    return failed.error.reason


if __name__ == "__main__":
    main()
