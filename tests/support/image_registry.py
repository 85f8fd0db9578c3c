"""A registry of images on loopback: Debian's docker-registry, with or without a password."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from support.mosquitto import free_port

USER, PASSWORD = "plant", "line-7"
_HASH = "$2y$05$vhIgF2rILD575VL49ef1Ye1YU8pSaxOmlUTDAHlwYiYzSB6TWLG4C"
"""Of the password, by bcrypt."""


def missing() -> str:
    """What it cannot run without; empty when all is there."""
    return "" if shutil.which("docker-registry") else "docker-registry"


class Registry:
    """Listens on a port of its own; what it holds goes with its folder."""

    def __init__(self, folder: Path, *, asks: bool = False) -> None:
        """`asks`: only for the user above."""
        folder.mkdir(parents=True)
        self.address = f"127.0.0.1:{free_port()}"
        settings = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.address},
        }
        if asks:
            (folder / "users").write_text(f"{USER}:{_HASH}\n")
            settings["auth"] = {"htpasswd": {"realm": "plant", "path": str(folder / "users")}}
        self._settings = folder / "config.yml"
        self._settings.write_text(json.dumps(settings))

    def __enter__(self) -> Registry:
        with self._settings.with_name("log").open("ab") as log:
            command = ["docker-registry", "serve", str(self._settings)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline_s = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline_s, self._settings.with_name("log").read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as reply:
                return bool(reply.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False
