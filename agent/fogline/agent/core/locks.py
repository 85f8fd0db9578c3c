"""The lock of an environment: which wheels, each by its digest, for which kind of node. Pure.

::

    {"fogline-lock": 1, "target": "3.11-x86_64-glibc-2.36",
     "wheels": [{"file": "numpy-2.4.6-....whl", "name": "numpy", "sha256": "...", "size": 123, "version": "2.4.6"}]}

Whoever wrote it, its words become lines and file names that an installer reads: each is held to what it may be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fogline.wire.terms import ErrorKind, FoglineError

VERSION = 1
MAX_BYTES = 1024**2
_MAX_WHEELS = 1000
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,98}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,245}\.whl")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Wheel:
    """One package, as the file that installs it."""

    file: str
    name: str
    sha256: str
    size_bytes: int
    version: str

    @property
    def requirement(self) -> str:
        """The line that admits this file alone."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


@dataclass(frozen=True)
class Lock:
    """Everything that an environment holds."""

    target: str
    """`<python minor>-<architecture>-<libc>-<its version>`: what the wheels were chosen for."""
    wheels: tuple[Wheel, ...]

    @property
    def size_bytes(self) -> int:
        """Of all wheels, packed."""
        return sum(wheel.size_bytes for wheel in self.wheels)


def parse(data: bytes) -> Lock:
    """Read a lock. Raises FoglineError (CORRUPT) for anything that is none, VERSION_MISMATCH for a newer one."""
    try:
        document = json.loads(data)
        version = document["fogline-lock"]
        if version != VERSION:
            sentence = f"the lock is of format {version!r}, this release reads {VERSION}: upgrade this node's fogline"
            raise FoglineError(ErrorKind.VERSION_MISMATCH, sentence)
        wheels = tuple(_wheel(each) for each in document["wheels"])
        target = str(document["target"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _corrupt(f"it is not a lock: {error!r}") from error
    if len(wheels) > _MAX_WHEELS:
        raise _corrupt(f"it names more than {_MAX_WHEELS} wheels")
    if len({wheel.name for wheel in wheels}) != len(wheels):
        raise _corrupt("it names a package twice")
    return Lock(target, wheels)


def unfit(target: str, node: str) -> str:
    """Why wheels for `target` do not run on a node of kind `node`; empty when they do.

    A newer C library runs what was made for an older one.
    """
    if target == node:
        return ""
    wants, has = target.split("-"), node.split("-")
    if len(wants) == len(has) == 4 and wants[:3] == has[:3] and _numbers(wants[3]) <= _numbers(has[3]):
        return ""
    return f"its environment was locked for {target}, and this node is {node}: submit the pipeline again"


def _wheel(document: Mapping[str, Any]) -> Wheel:
    wheel = Wheel(document["file"], document["name"], document["sha256"], document["size"], document["version"])
    for pattern, value in (
        (_FILE, wheel.file),
        (_NAME, wheel.name),
        (_DIGEST, wheel.sha256),
        (_VERSION, wheel.version),
    ):
        if not pattern.fullmatch(value):
            raise _corrupt(f"{value[:80]!a} is not what a wheel can be called")
    if type(wheel.size_bytes) is not int or wheel.size_bytes < 0:
        raise _corrupt(f"{wheel.name} has no size")
    return wheel


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _corrupt(why: str) -> FoglineError:
    return FoglineError(ErrorKind.CORRUPT, f"the lock of the environment is refused: {why}")
