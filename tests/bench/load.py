"""The load of the MQTT rows: `mqload.c` where there is a C compiler, else the raw client in Python.

Python feeds and reads some 15 000 records a second and takes a processor for it; a fast program under test is then
measured against its load.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.raw_mqtt import RawClient

SOURCE_FILE = Path(__file__).with_name("mqload.c")
BUILT = Path(__file__).parents[2] / "build/mqload"
DEADLINE_S = 180.0
_HEAD = struct.Struct("=dI")

Drive = Callable[[], tuple[list[bytes], list[float]]]
"""Feeds, and returns what came with the second it had come."""


@dataclass(frozen=True)
class Course:
    """From where to where, and how many messages may be under way between the two."""

    port: int
    source: str
    sink: str
    between: int


@functools.cache
def compiled() -> Path | None:
    """The load in C, built when its source is newer; None: there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    if not BUILT.exists() or BUILT.stat().st_mtime < SOURCE_FILE.stat().st_mtime:
        BUILT.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-O2", "-Wall", "-o", str(BUILT), str(SOURCE_FILE)], check=True)
    return BUILT


@contextmanager
def by_c(program: Path, course: Course, payloads: Sequence[bytes], folder: Path) -> Iterator[Drive]:
    """A subscribed load, as a process of its own with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    fed, made = folder / "fed", folder / "made"
    fed.write_bytes(b"".join(struct.pack("=I", len(each)) + each for each in payloads))
    argv = [str(program), str(course.port), course.source, course.sink, str(course.between), str(fed), str(made)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield lambda: _drive(process, made)
    finally:
        process.kill()
        process.communicate()


def _drive(process: subprocess.Popen[str], made: Path) -> tuple[list[bytes], list[float]]:
    _, words = process.communicate("\n", DEADLINE_S)
    if process.returncode:
        raise RuntimeError(words.strip() or f"mqload ended with {process.returncode}")
    data, place = made.read_bytes(), 0
    payloads: list[bytes] = []
    times: list[float] = []
    while place < len(data):
        at_s, length = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        payloads.append(data[place : place + length])
        times.append(at_s)
        place += length
    return payloads, times


@contextmanager
def by_python(course: Course, payloads: Sequence[bytes], records_in: Callable[[bytes], int]) -> Iterator[Drive]:
    """The same in this process; a message may hold many records."""
    with RawClient(course.port) as client:
        client.subscribe(course.sink)
        yield lambda: client.drive(course.source, payloads, course.between, records_in)
