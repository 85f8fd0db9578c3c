"""One folder per copy, and files that are on the disk when the call returns.

::

    copies/<16 hex>/copy.json     whose folder this is and what was last asked of it (the intent)
                    spec.json     the segment's spec, as it came
                    nonce         what the process must be shown before it is believed to be ours
                    runtime       the folder that the newest process has fogline.runtimes from, unless it is the agent's
                    shim.json     pids and start times; written by the shim
                    container.json  the container, where it runs in one, and its process as seen from here
                    image         the id of the image that its containers are made from
                    exit.json     how the process ended; written by the shim
                    failure.json  why, in the stage's own words; written by the stage
                    finished.json instead, when its input has ended: what it counted; written by the stage
                    check.json    who checks; written by the agent
                    control.sock, state.bin, stage.log, shim.lock
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.agent.core.desired import Assignment, CopyKey
from fogline.agent.core.restarts import Ending
from fogline.wire.terms import Wanted

_LEFT_BY_A_PROCESS = ("shim.json", "container.json", "exit.json", "failure.json", "finished.json", "control.sock")


@dataclass(frozen=True)
class Intent:
    """What was last asked of a copy; its incarnation is that of the process."""

    wish: Assignment
    prepared: bool
    """The check has passed."""


@dataclass(frozen=True)
class Workspace:
    """The folder of one copy."""

    path: Path

    @classmethod
    def of(cls, state_dir: Path, key: CopyKey) -> Workspace:
        """The folder that belongs to `key`; its name is short, for the socket's path."""
        name = hashlib.sha256((key.assignment + key.spec_digest).encode()).hexdigest()[:16]
        return cls(state_dir / "copies" / name)

    @property
    def state_dir(self) -> Path:
        """The agent's folder, in which this one lies."""
        return self.path.parents[1]

    @property
    def spec(self) -> Path:
        """The spec as the process reads it."""
        return self.path / "spec.json"

    @property
    def log(self) -> Path:
        """What the process writes to its standard output and error."""
        return self.path / "stage.log"

    def create(self, wish: Assignment) -> None:
        """Make the folder with the spec in it; an existing one is kept."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(self.path.parent)
        write_durably(self.spec, wish.spec)
        self.write_intent(wish, prepared=False)

    def write_intent(self, wish: Assignment, *, prepared: bool) -> None:
        """Say what is about to be asked of this copy, before it is asked, and whether it could start."""
        intent = {
            "assignment": wish.id,
            "spec_digest": wish.spec_digest,
            "wanted": wish.wanted.value,
            "bind": wish.bind,
            "revision": wish.revision,
            "incarnation": wish.incarnation,
            "prepared": prepared,
        }
        write_durably(self.path / "copy.json", json.dumps(intent).encode())

    def ready_for_start(self) -> None:
        """Remove what the last process left and lay down a new nonce."""
        for name in _LEFT_BY_A_PROCESS:
            (self.path / name).unlink(missing_ok=True)
        write_durably(self.path / "nonce", os.urandom(16).hex().encode())

    def nonce(self) -> str:
        """What was laid down before the newest start; empty before the first."""
        try:
            return (self.path / "nonce").read_text().strip()
        except FileNotFoundError:
            return ""

    def note_runtime(self, folder: Path | None) -> None:
        """Say which copy of the runtime the next process reads from; None: the agent's own."""
        if folder is None:
            (self.path / "runtime").unlink(missing_ok=True)
        else:
            write_durably(self.path / "runtime", str(folder).encode())

    def noted_runtime(self) -> str:
        """What was noted last; empty when that is the agent's own."""
        try:
            return (self.path / "runtime").read_text()
        except FileNotFoundError:
            return ""

    def was_started(self) -> bool:
        """Whether a process was ever started here and not replaced since."""
        return (self.path / "shim.json").exists()

    def ending(
        self, code: int | None, signal: int | None, *, out_of_memory: bool = False, memory_limit_bytes: int = 0
    ) -> Ending:
        """How the process ended, with the reason it left behind."""
        finished = self.finished()
        reason = last_words(finished or read_json(self.path / "failure.json"))
        return Ending(code, signal, reason, out_of_memory, memory_limit_bytes, bool(finished))

    def finished(self) -> dict[str, Any]:
        """What the process said at the end of its input: `reason` and `stages`; empty when it did not end so."""
        return read_json(self.path / "finished.json")

    def noted_ending(self) -> Ending:
        """How the process ended while nobody watched, as far as its shim could note it."""
        noted = read_json(self.path / "exit.json")
        return self.ending(
            noted.get("code"),
            noted.get("signal"),
            out_of_memory=bool(noted.get("oom")),
            memory_limit_bytes=int(noted.get("limit_bytes", 0)),
        )

    def intent(self) -> Intent | None:
        """What this folder remembers, for a store that was lost; None when that is nothing."""
        document = read_json(self.path / "copy.json")
        try:
            wish = Assignment(
                str(document["assignment"]),
                str(document["spec_digest"]),
                self.spec.read_bytes(),
                Wanted(document["wanted"]),
                bool(document["bind"]),
                int(document["revision"]),
                listed=False,
                incarnation=int(document["incarnation"]),
            )
            return Intent(wish, bool(document["prepared"]))
        except (KeyError, ValueError, TypeError, FileNotFoundError):
            return None

    def remove(self) -> None:
        """Delete the folder and everything in it. Raises OSError when something resists."""
        if self.path.exists():
            shutil.rmtree(self.path)


def existing(state_dir: Path) -> list[Workspace]:
    """Every workspace on the disk."""
    folder = state_dir / "copies"
    return [Workspace(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []


def last_words(document: Mapping[str, Any]) -> str:
    """The reason in a `{"stage", "reason"}` of the runtime, verbatim, with the stage if it does not say it."""
    stage, reason = str(document.get("stage") or ""), str(document.get("reason") or "")
    return reason if not stage or not reason or stage in reason else f"stage {stage}: {reason}"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty when the file is absent or holds something else."""
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file, readable by us only: after a power cut it holds the old bytes or the new ones."""
    draft = path.with_name(f".{path.name}.draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_disk(path: Path) -> None:
    """Put everything written so far to the disk that holds `path`: of a large tree, sooner than file by file."""
    sync = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if sync is None or sync(handle) != 0:
            os.sync()
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
