"""The processes that run segments, as the kernel tells of them: neither agent nor coordinator is asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from support.segments import Control

LOOK_S = 0.1
GONE = "ZX"
"""States of a process that has ended."""


@dataclass(frozen=True)
class Sight:
    """One process that runs a segment."""

    pid: int
    workspace: Path
    stages: tuple[str, ...]

    def status(self) -> dict[str, Any] | None:
        """What its control socket answers, or None when nobody does."""
        try:
            with Control(self.workspace) as control:
                return control.ask("status")
        except (OSError, ValueError):
            return None

    def counter(self, name: str) -> int | None:
        """One counter of its first stage; None when nobody answers."""
        status = self.status()
        return None if status is None else int(status["stages"][0]["counters"][name])

    def peak_bytes(self) -> int:
        """Most memory it ever had resident."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def segments(folder: Path) -> list[Sight]:
    """Every living process that runs a segment in a workspace below `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (sight := _sight(entry, str(folder))) is not None:
            found.append(sight)
    return found


def of_stage(folder: Path, stage: str) -> Sight | None:
    """The process that runs a stage."""
    return next((sight for sight in segments(folder) if stage in sight.stages), None)


def alive(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in GONE
    except OSError:
        return False


def _sight(entry: Path, folder: str) -> Sight | None:
    try:
        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # ended while we looked
        return None
    if "--workspace" not in words or "run" not in words or any(word.endswith("shim.py") for word in words):
        return None
    workspace = Path(words[words.index("--workspace") + 1])
    if folder not in str(workspace) or not alive(int(entry.name)):
        return None
    spec = json.loads((workspace / "spec.json").read_bytes())
    return Sight(int(entry.name), workspace, tuple(stage["name"] for stage in spec["stages"]))


class Watch:
    """`with Watch(folder) as watch:` looks on, and raises an alarm when a stage has two processes at once, or,
    unless `changing`, when its process is another one than before and nobody of the test killed that."""

    def __init__(self, folder: Path, *, changing: bool = False) -> None:
        self.alarms: list[str] = []
        self.looks = 0
        self.killed: set[int] = set()
        """PIDs that the test itself has killed: to be noted before the kill."""
        self._folder = folder
        self._changing = changing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        known: dict[str, int] = {}
        while not self._stop.wait(LOOK_S):
            pids: dict[str, list[int]] = defaultdict(list)
            for sight in segments(self._folder):
                for stage in sight.stages:
                    pids[stage].append(sight.pid)
            self._compare(known, pids)
            self.looks += 1

    def _compare(self, known: dict[str, int], pids: dict[str, list[int]]) -> None:
        for stage, found in pids.items():
            if len(found) > 1 and all(alive(pid) for pid in found):
                self.alarms.append(f"stage {stage} has {len(found)} processes at once: {found}")
            former, known[stage] = known.get(stage), found[-1]
            if former is not None and former not in found and not self._excused(former):
                self.alarms.append(f"stage {stage} changed its process, and nobody killed {former}")

    def _excused(self, pid: int) -> bool:
        return self._changing or pid in self.killed
