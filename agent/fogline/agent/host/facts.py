"""What this node is: read once at the start, without importing what it finds."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fogline.runtimes import plugins
from fogline.runtimes.options import CONNECTORS, FRAMEWORKS, SERVING, SERVING_REQUIREMENTS
from fogline.runtimes.spec import TLS_FILES
from fogline.wire.channel import split_address

# Only top-level names: looking for `a.b` would import `a`.
_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "code": ("json",),
    "onnx": ("onnxruntime",),
    "sklearn": ("sklearn",),
    "tensorflow": ("tensorflow",),
    "tflite": ("ai_edge_litert", "tflite_runtime"),
    "mqtt": ("json",),
    "kafka": ("confluent_kafka", "kafka"),
    "websocket": ("websockets",),
    "file": ("json",),
}
"""Framework or connector -> the libraries of which one is enough."""


@dataclass(frozen=True)
class Facts:
    """As they go into Hello."""

    hostname: str
    machine_id: str
    boot_id: str
    architecture: str
    os: str
    python: str
    libc: str
    cpus: float
    memory_bytes: int
    disk_bytes: int
    address: str
    frameworks: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    drivers: tuple[str, ...] = field(default=("process",))
    lacks: tuple[str, ...] = ()
    """Extras of which not every library is here."""
    tls: bool = False
    """There is a certificate; whether it can be used is found out by the check of what uses it."""


def gather(state_dir: Path, coordinator: str, address: str, drivers: tuple[str, ...] = ("process",)) -> Facts:
    """The facts of this machine. `address` empty: the one this machine has towards the coordinator."""
    system = os.uname()
    disk = os.statvfs(state_dir)
    return Facts(
        hostname=socket.gethostname(),
        machine_id=machine_id(state_dir),
        boot_id=boot_id(),
        architecture=system.machine,
        os=f"{system.sysname} {system.release}",
        python=".".join(str(part) for part in sys.version_info[:3]),
        libc=libc(),
        cpus=float(len(os.sched_getaffinity(0))),
        memory_bytes=_memory_bytes(),
        disk_bytes=disk.f_bavail * disk.f_frsize,
        address=address or _own_address(coordinator),
        frameworks=_installed(FRAMEWORKS),
        connectors=_installed(CONNECTORS),
        drivers=drivers,
        lacks=_lacks(),
        tls=_certified(state_dir),
    )


def boot_id() -> str:
    """New at every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def machine_id(state_dir: Path) -> str:
    """The machine's own id; where the system has none, one of ours that stays with the state folder."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"), state_dir / "machine-id"):
        known = path.read_text().strip() if path.exists() else ""
        if known and known != "uninitialized":
            return known
    fresh = os.urandom(16).hex()
    (state_dir / "machine-id").write_text(fresh + "\n")
    return fresh


def libc() -> str:
    """Such as `glibc-2.36`; by it a wheel is known to run here."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):
        return "unknown"
    return f"{name}-{version}"


def _memory_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemTotal:"))
    return int(kilobytes) * 1024


def _own_address(coordinator: str) -> str:
    host, port = split_address(coordinator)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port or 1))  # chooses a route; sends nothing
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def _installed(table: plugins.Table[Any]) -> tuple[str, ...]:
    """The names of which the library is here, and those that packages here bring."""
    own = tuple(name for name in table.own if any(map(importlib.util.find_spec, _LIBRARIES[name])))
    return own + tuple(name for name in plugins.offered(table.kind) if name not in table.own)


def _certified(state_dir: Path) -> bool:
    """One that cannot be reached counts: its check says why, and nothing is served without it unawares."""
    try:
        (state_dir / "tls" / TLS_FILES[0]).stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _lacks() -> tuple[str, ...]:
    """The libraries of API mode are called as their distributions are."""
    needed = (line.partition(">=")[0] for line in SERVING_REQUIREMENTS)
    return () if all(map(importlib.util.find_spec, needed)) else (SERVING,)
