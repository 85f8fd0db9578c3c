"""Wishes, specs and waiting, for the tests of the agent."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fogline.agent.core.desired import Assignment
from fogline.agent.drivers.base import Launch
from fogline.agent.drivers.process import ProcessDriver, ProcessHandle
from fogline.runtimes.spec import HealthSpec, SegmentSpec, StageSpec, digest
from fogline.wire.terms import Wanted

RUNTIME = (sys.executable, "-S", str(Path(__file__).with_name("agent_runtime.py")))
"""The stand-in for `python -m fogline.runtimes`."""


class Scripted(ProcessDriver):
    """Starts a command of the test's own, whatever a launch names."""

    def __init__(self, *command: str) -> None:
        self._command = command

    async def start(self, launch: Launch) -> ProcessHandle:
        return await super().start(replace(launch, runtime=self._command))


def a_spec(
    segment: str = "clean",
    environment: Mapping[str, str] | None = None,
    restart: str = "always",
    artifacts: Mapping[str, str] | None = None,
    health: HealthSpec | None = None,
) -> SegmentSpec:
    """A segment of one stage per artifact (digest -> framework), or of one without."""
    needed = artifacts or {"": "code"}
    stages = tuple(
        StageSpec(f"{segment}{index or ''}", framework, (), (), artifact=artifact)
        for index, (artifact, framework) in enumerate(needed.items())
    )
    return SegmentSpec(
        "plant",
        segment,
        "0",
        "a",
        "c1",
        stages,
        environment=dict(environment or {}),
        restart=restart,
        health=health or HealthSpec(),
    )


def a_wish(spec: SegmentSpec, wanted: Wanted = Wanted.RUNNING, **changes: object) -> Assignment:
    """What a coordinator would ask of this spec."""
    data = spec.to_bytes()
    given: dict[str, object] = {"bind": True, "revision": 1, "drain_s": 2.0} | changes
    return Assignment(spec.assignment_id, digest(data), data, wanted, **given)  # type: ignore[arg-type]


async def until(
    condition: Callable[[], object], what: str, limit_s: float = 10.0, seen: Callable[[], object] = str
) -> None:
    """Wait for a condition; fail with `what`, and what is seen instead, when it does not come."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {limit_s:g} s: {what}; {seen()}")
        await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}
