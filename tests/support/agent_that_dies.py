"""`agent_with_stand_in.py`, killed by its own hand (SIGKILL) at a moment named in DIES_AT; same arguments.

`before X` and `after X` of the first call of X, a function of the agent; `none` for no death.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from fogline.agent import cli, daemon

RUNTIME = (sys.executable, "-S", str(Path(__file__).with_name("agent_runtime.py")))

MOMENTS = {
    "intent": "fogline.agent.host.workspace:Workspace.write_intent",
    "store": "fogline.agent.store.sqlite:Store.save_progress",
    "cleared": "fogline.agent.host.workspace:Workspace.ready_for_start",
    "spawn": "fogline.agent.drivers.process:_spawn_shim",
    "nonce": "fogline.agent.host.workspace:write_durably",
    "record": "fogline.agent.custody:Custody.attend",
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(when: str, place: str) -> None:
    module, _, path = MOMENTS[place].partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    original = getattr(owner, name)

    @functools.wraps(original)
    def deadly(*arguments: Any, **keywords: Any) -> Any:
        if when == "after":
            original(*arguments, **keywords)
        die()

    setattr(owner, name, deadly)


if __name__ == "__main__":
    daemon.run = functools.partial(daemon.run, runtime=RUNTIME)
    if os.environ["DIES_AT"] != "none":
        arm(*os.environ["DIES_AT"].split())
    cli.main()
