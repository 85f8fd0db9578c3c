"""Kinds of nodes that wheels are chosen for: Python, processor, C library. Pure.

A target reads `PYTHON-ARCHITECTURE-LIBC`, such as `3.11-x86_64-glibc-2.36`, and is put together in `core/fleet.py`.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from fogline.wire.terms import ErrorKind, FoglineError

_SHAPE = re.compile(r"(\d+\.\d+)-([a-z0-9_]+)-(glibc|musl)-(\d+)\.(\d+)")
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
"""Architecture -> the C library's minor version that wheels for it begin with."""
_UV_GLIBC = (17, 28, *range(31, 41))
"""The `manylinux_2_N` that uv has a platform for."""
_OLDER_NAMES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


@dataclass(frozen=True)
class Target:
    """One kind of node."""

    text: str
    python: str
    """Such as `3.11`."""
    architecture: str
    libc: str
    """`glibc` or `musl`."""
    libc_version: tuple[int, int]

    def __str__(self) -> str:
        """For people: `aarch64, glibc 2.36, Python 3.11`."""
        return f"{self.architecture}, {self.libc} {'.'.join(map(str, self.libc_version))}, Python {self.python}"

    @property
    def uv_platform(self) -> str:
        """The newest platform uv knows that is no newer than this one."""
        if self.libc == "musl":
            return f"{self.architecture}-unknown-linux-musl"
        newest = max(each for each in _UV_GLIBC if each <= self.libc_version[1])
        return f"{self.architecture}-manylinux_2_{newest}"

    @property
    def pip_platforms(self) -> list[str]:
        """Every platform tag whose wheels run there, newest first: pip takes each literally."""
        newest = self.libc_version[1]
        if self.libc == "musl":
            tags = [f"musllinux_1_{minor}" for minor in range(newest, 0, -1)]
        else:
            tags = []
            for minor in range(newest, _OLDEST_GLIBC[self.architecture] - 1, -1):
                tags += [f"manylinux_2_{minor}", *([_OLDER_NAMES[minor]] if minor in _OLDER_NAMES else [])]
        return [f"{tag}_{self.architecture}" for tag in (*tags, "linux")]


def read_target(text: str) -> Target:
    """The target behind its name. Raises FoglineError for a kind of node that no wheels are made for."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise _no_wheels(text)
    python, architecture, libc, major, minor = found.groups()
    version = (int(major), int(minor))
    oldest = (1, 1) if libc == "musl" else (2, _UV_GLIBC[0])
    if architecture not in _OLDEST_GLIBC or version < oldest:
        raise _no_wheels(text)
    return Target(text, python, architecture, libc, version)


def this_machine() -> str:
    """The target of this process."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):
        name, version = "unknown", "0"
    minor = ".".join(map(str, sys.version_info[:2]))
    return f"{minor}-{os.uname().machine}-{name}-{version}"


def _no_wheels(text: str) -> FoglineError:
    return FoglineError(
        ErrorKind.UNPLACEABLE,
        f"packages cannot be chosen for nodes of the kind {text}: there are wheels for x86_64 and aarch64 with glibc "
        f"2.{_UV_GLIBC[0]} or newer, or musl 1.1 or newer; install what its stages need on such a node by hand and run "
        "its agent with --environments own",
    )
