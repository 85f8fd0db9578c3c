"""The agent dies at chosen and at random moments: afterwards there is exactly one copy, and there never were two."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fogline.agent.host.workspace import Workspace, read_json
from fogline.agent.store.sqlite import Membership, Phase, Store
from support.agent_builders import a_spec, a_wish, lives
from support.agent_that_dies import MOMENTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

AGENT = str(Path(__file__).parents[1] / "support" / "agent_that_dies.py")
ROUNDS = int(os.environ.get("FOGLINE_KILLS", "8"))
"""Of random kills; the full figure is 50."""
WISH = a_wish(a_spec())


class Node:
    """A node whose disk says that one copy shall run; its coordinator is away."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.workspace = Workspace.of(state_dir, WISH.key)
        self.workspace.create(WISH)
        self.workspace.write_intent(WISH, prepared=True)
        with closing(Store(state_dir / "state.db")) as store:
            store.save_desired(Membership("c1", 1, 1), [WISH])
            store.save_progress(WISH.key, Phase.PREPARED)

    def agent(self, dies_at: str = "none") -> subprocess.Popen[bytes]:
        arguments = ["run", "--coordinator", "127.0.0.1:9", "--name", "n1", "--layer", "edge"]
        with (self.state_dir / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, AGENT, *arguments, "--state-dir", str(self.state_dir)],
                stdout=log,
                stderr=log,
                env={**os.environ, "DIES_AT": dies_at},
            )

    def stages(self) -> list[int]:
        """Every process that runs in the workspace and is no shim."""
        return [pid for pid, command in commands() if str(self.workspace.path) in command and "shim.py" not in command]

    def runs(self) -> int:
        """The stage, when it is the one that its shim, which lives, has noted, and has begun."""
        noted = read_json(self.workspace.path / "shim.json")
        log = self.workspace.log.read_text() if self.workspace.log.exists() else ""
        whole = noted and lives(noted["shim_pid"]) and f"starts as {noted['pid']}\n" in log
        return int(noted["pid"]) if whole and self.stages() == [noted["pid"]] else 0

    def never_two(self) -> bool:
        return not (self.workspace.path / "two-copies").exists()

    def close(self) -> None:
        for pid, command in commands():
            if str(self.state_dir) in command:
                end(pid)


def commands() -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and lives(int(entry.name)):
            with suppress(OSError):
                found.append((int(entry.name), (entry / "cmdline").read_text().replace("\0", " ")))
    return found


def end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(what: str, condition: Callable[[], object], limit_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)


def settles(node: Node) -> int:
    """The pid of the only copy once an agent has come up and looked around."""
    log = node.state_dir / "agent.log"
    said_before = log.stat().st_size if log.exists() else 0
    agent = node.agent()
    try:
        wait_for("the agent knows it", lambda: f"process {node.runs()}" in log.read_text()[said_before:])
        pid = node.runs()
        assert pid
        assert agent.poll() is None
        assert node.stages() == [pid]
        assert node.never_two()
    finally:
        agent.kill()
        agent.wait()
    return pid


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("place", MOMENTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_at_a_chosen_moment_of_a_start(node: Node, when: str, place: str) -> None:
    dying = node.agent(f"{when} {place}")
    assert dying.wait(30) == -signal.SIGKILL
    began = len(node.stages())
    assert began <= 1
    pid = settles(node)
    if place == "record":
        assert node.workspace.log.read_text().count("stage starts as") == 1, "it was there already: adopted"
    assert settles(node) == pid, "and the one after that adopts it"


def test_at_random_moments_while_stages_and_shims_die_too(node: Node) -> None:
    """Each round: something of the copy is killed, then agents that live for a random while."""
    seed = int(os.environ.get("FOGLINE_SEED", "20261125"))
    chance = random.Random(seed)
    settles(node)
    for turn in range(ROUNDS):
        noted = json.loads((node.workspace.path / "shim.json").read_text())
        victims = chance.choice([["pid"], ["shim_pid"], ["shim_pid", "pid"], ["pid", "shim_pid"], []])
        for victim in victims:
            end(noted[victim])
        for _ in range(chance.randrange(1, 4)):
            agent = node.agent()
            time.sleep(chance.uniform(0.0, 0.9))  # the moment is what is random here
            agent.kill()
            agent.wait()
        assert len(node.stages()) <= 1, f"seed {seed}, round {turn}"
        settles(node)
    assert node.never_two(), f"seed {seed}"


def test_a_running_stage_keeps_its_pid_over_kills(node: Node) -> None:
    pid = settles(node)
    chance = random.Random(4)
    for _ in range(ROUNDS):
        agent = node.agent()
        time.sleep(chance.uniform(0.0, 0.6))  # the moment is what is random here
        agent.kill()
        agent.wait()
        assert node.stages() == [pid]
    assert settles(node) == pid


def test_a_check_does_not_outlive_its_agent_for_long(node: Node) -> None:
    wish = a_wish(a_spec("hangs", environment={"FAKE_CHECK": "hang"}))
    with closing(Store(node.state_dir / "state.db")) as store:
        store.save_desired(Membership("c1", 1, 1), [wish])
    folder = Workspace.of(node.state_dir, wish.key).path

    def checks() -> list[int]:
        return [pid for pid, command in commands() if str(folder) in command and " check " in command]

    agent = node.agent()
    wait_for("it checks", lambda: checks() and (folder / "check.json").exists())
    (left,) = checks()
    agent.kill()
    agent.wait()
    assert lives(left)
    agent = node.agent()
    try:
        wait_for("another check, and that alone", lambda: checks() and checks() != [left] and not lives(left))
    finally:
        agent.kill()
        agent.wait()
