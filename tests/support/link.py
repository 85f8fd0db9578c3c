"""A node's network that can be cut: a network namespace whose only link to this machine is taken down and up again.

It needs root and `ip`. Nothing of it reaches beyond this machine, and all of it is gone afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

IP = shutil.which("ip") or "/usr/sbin/ip"


def missing() -> str:
    """What there is not; empty: a link can be made."""
    if not Path(IP).exists():
        return "ip (iproute2)"
    if os.geteuid() != 0:
        return "root, for network namespaces"
    try:
        with Link():
            return ""
    except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
        return f"a kernel that makes network namespaces ({error})"


class Link:
    """`with Link() as link:` makes it. `here` is the address of this machine as the namespace sees it.

    A bridge holds that address: the machine keeps it while the link is down, and what is sent over the link is
    lost without a word, as with a cable that is pulled out elsewhere.
    """

    def __init__(self) -> None:
        number = os.getpid() % (64 * 256)
        net = f"10.213.{number // 64}"
        self.here, self._there = (f"{net}.{number % 64 * 4 + each}" for each in (1, 2))
        self._space = f"fogline-{number}"
        self._bridge, self._port, self._inner = (f"fogl{number}{each}" for each in "bpi")
        self._undo = ExitStack()

    def __enter__(self) -> Link:
        with ExitStack() as undo:
            self._make(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def inside(self, *program: str) -> tuple[str, ...]:
        """The command that runs a program in the namespace, as the same process."""
        return (IP, "netns", "exec", self._space, *program)

    def cut(self) -> None:
        """Nothing passes, in either direction."""
        _ip("link", "set", self._port, "down")

    def mend(self) -> None:
        """Everything passes again."""
        _ip("link", "set", self._port, "up")

    def _make(self, undo: ExitStack) -> None:
        _ip("netns", "add", self._space)
        undo.callback(_ip, "netns", "del", self._space)
        _ip("link", "add", self._bridge, "type", "bridge")
        undo.callback(_ip, "link", "del", self._bridge)
        _ip("link", "add", self._port, "type", "veth", "peer", "name", self._inner, "netns", self._space)
        undo.callback(_ip, "link", "del", self._port)
        _ip("link", "set", self._port, "master", self._bridge, "up")
        _ip("addr", "add", f"{self.here}/30", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        _ip("-n", self._space, "addr", "add", f"{self._there}/30", "dev", self._inner)
        for each in ("lo", self._inner):
            _ip("-n", self._space, "link", "set", each, "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run([IP, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
