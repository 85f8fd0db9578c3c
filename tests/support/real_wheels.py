"""Real wheels, downloaded once into `build/wheels`, and locks of them as a coordinator would store them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from fogline.agent.host.environments import node_target

FOLDER = Path(__file__).parents[2] / "build" / "wheels"


class Wheelhouse:
    """Blobs by digest: every wheel that was asked for, and every lock that was made."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, str] = {}
        """Name of a wheel's file by its digest."""

    def lock(self, *packages: str, target: str = "", **changes: object) -> str:
        """The digest of a lock of these packages; `changes` are made to its first wheel."""
        wheels = [self._wheel(package) for package in sorted(packages)]
        wheels[:1] = [wheel | changes for wheel in wheels[:1]]
        document = {"fogline-lock": 1, "target": target or node_target(), "wheels": wheels}
        return self.add(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())

    def add(self, blob: bytes) -> str:
        digest = hashlib.sha256(blob).hexdigest()
        self.blobs[digest] = blob
        return digest

    def _wheel(self, package: str) -> dict[str, object]:
        path = _downloaded(package)
        digest = self.add(path.read_bytes())
        self.files[digest] = path.name
        name, version = path.name.split("-")[:2]
        return {
            "file": path.name,
            "name": name,
            "sha256": digest,
            "size": path.stat().st_size,
            "version": version,
        }


def _downloaded(package: str) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    if not (found := sorted(FOLDER.glob(f"{package}-*-{tag}-*.whl"))):
        command = ["download", "--quiet", "--only-binary=:all:", "--no-deps", "--dest", str(FOLDER), package]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        found = sorted(FOLDER.glob(f"{package}-*-{tag}-*.whl"))
    return found[-1]
