"""`fogline-agent`, with the stand-in for the runtime: run as a script, same arguments."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from fogline.agent import cli, daemon

RUNTIME = (sys.executable, "-S", str(Path(__file__).with_name("agent_runtime.py")))

if __name__ == "__main__":
    daemon.run = functools.partial(daemon.run, runtime=RUNTIME)
    cli.main()
