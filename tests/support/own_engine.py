"""A container engine of the tests' own, which may be stopped and started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

BASE = "fogline/python:3.11"
BASE_TAR = Path(__file__).parents[2] / "build" / "python-3.11.tar"
"""Made by `tests/support/base_image.sh`, once."""


def missing() -> str:
    """What it cannot run without; empty when all is there."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        return "root and dockerd"
    return "" if BASE_TAR.exists() else str(BASE_TAR)


def import_base(*where: str) -> list[str]:
    """The command that brings the base image into an engine."""
    return ["docker", *where, "import", "--change", "ENV LANG=C.UTF-8", str(BASE_TAR), BASE]


class OwnEngine:
    """dockerd with a root, a socket and a containerd of its own; it changes no network of this machine."""

    def __init__(self, folder: Path, *, live_restore: bool = False, room_mb: int = 0) -> None:
        """`room_mb`: how much all its images and containers may take; 0: as much as there is."""
        self.folder = folder
        folder.mkdir(parents=True)
        if room_mb:
            (folder / "data").mkdir()
            size = f"size={room_mb}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder / "data")], check=True)
        self._sockets = Path(tempfile.mkdtemp(prefix="engine-"))
        """Their paths may have 108 bytes, and containerd's are long."""
        self.host = f"unix://{self._sockets}/e.sock"
        self.live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OwnEngine:
        self.start()
        subprocess.run(import_base("-H", self.host), check=True, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        ids = self.docker("ps", "-aq").split()
        if ids:
            self.docker("rm", "-f", *ids)
        self.stop()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith((f"{self.folder}/", f"{self._sockets}/")):
                subprocess.run(["umount", place], check=False)
        for folder in (self.folder, self._sockets):
            shutil.rmtree(folder, ignore_errors=True)

    def start(self) -> None:
        """Return when it answers."""
        places = ["--data-root", f"{self.folder}/data", "--exec-root", f"{self._sockets}/x", "-H", self.host]
        places += ["--pidfile", f"{self.folder}/pid", "--iptables=false", "--bridge=none"]
        live = ["--live-restore"] if self.live_restore else []
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["dockerd", *places, *live], stdout=log, stderr=log)
        deadline_s = time.monotonic() + 30
        while not self.docker("version", "--format", "{{.Server.Version}}"):
            if time.monotonic() > deadline_s:
                self.stop()
                raise AssertionError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """As at an upgrade: SIGTERM, and wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def docker(self, *arguments: str) -> str:
        """The output of a command; empty when it fails."""
        done = subprocess.run(["docker", "-H", self.host, *arguments], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""
