"""Standard input as chunks of lines: whatever has arrived, so that a person at a keyboard gets answers
and a pipe gets batches. And standard output kept clean of what user code prints."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO

READ_BYTES = 256 * 1024


def chunks(descriptor: int, at_most: int) -> Iterator[list[bytes]]:
    """Lists of up to `at_most` whole lines without their ends; blank lines are left in (they count)."""
    rest = b""
    while received := os.read(descriptor, READ_BYTES):
        *lines, rest = (rest + received).split(b"\n")
        for start in range(0, len(lines), at_most):
            yield lines[start : start + at_most]
    if rest:
        yield [rest]


@contextlib.contextmanager
def answers_only() -> Iterator[IO[bytes]]:
    """The real standard output; meanwhile whatever anybody prints there goes to standard error."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(real, "wb", closefd=False) as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)
