"""REST beside a crowd: what clients notice of other connections that say nothing, little, or half of something."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.models import Models
from bench.rest_load import NotRight, load
from bench.rest_servers import Door
from bench.rows import Row, compared
from bench.size import Size

PROGRAM = Path(__file__).parent / "crowd.py"
CLIENTS = 16
GATHERED_S = 60.0


def rows(door: Door, models: Models, size: Size) -> list[Row]:
    """The latency of the same clients with and without the crowd, in pairs that take turns."""
    pairs = []
    for _ in range(size.rest_pairs):
        alone = load(door, models, CLIENTS, size.rest_s)
        with crowd(door, size.crowd):
            beside = load(door, models, CLIENTS, size.rest_s)
        door.answer([0.0] * 20)  # the loop has seen all of them leave
        pairs.append((beside.p99_ms, alone.p99_ms))
    name = f"REST p99, {CLIENTS} clients beside {size.crowd:,} idle, slow and half-open connections"
    return [compared(name, "ms", f"the same {CLIENTS} clients alone", pairs, "<= 2x")]


@contextmanager
def crowd(door: Door, count: int) -> Iterator[None]:
    """So many connections, as long as the context lasts. Raises NotRight when they did not last."""
    address = urlsplit(door.url)
    command = [sys.executable, str(PROGRAM), str(address.hostname), str(address.port), address.path, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        gathered = process.stdout.readline().strip()
        if gathered != "gathered":
            raise NotRight(f"no crowd of {count} came together: {gathered!r}")
        yield
        process.stdin.close()
        left = process.stdout.readline().strip()
        if left != str(count):
            raise NotRight(f"of {count} connections {left or 'none'} were left at the end")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
