"""The state file of a segment: memory-mapped, so that what was written last survives any death of the process.

::

    counters | identity || header | ids inside user code | suspects | identity

Each part is followed by a SHA-256 of what it was made for. A part that was made for something else begins
anew, the other one stays: a new batch size or mended code forgets who is suspect, not what was counted.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from pathlib import Path

from fogline.runtimes.spec import COUNTERS
from fogline.runtimes.suspects import room_bytes

FILE = "state.bin"
_DIGEST_BYTES = 32


class StateFile:
    """Two writable views of the file. Release what was made from them before `close`."""

    def __init__(self, folder: Path, stages: Sequence[str], spec_digest: str, max_size: int) -> None:
        """Open or make `folder/state.bin`."""
        counters = 8 * len(COUNTERS) * len(stages), _identity(*stages, "", *COUNTERS)
        suspects = room_bytes(max_size), _identity(spec_digest, str(max_size), *stages)
        self._map = _mapped(folder / FILE, (counters, suspects))
        self._whole = memoryview(self._map)
        begin = counters[0] + _DIGEST_BYTES
        self.counters = self._whole[: counters[0]]
        self.suspects = self._whole[begin : begin + suspects[0]]

    def close(self) -> None:
        """The file stays."""
        self.counters.release()
        self.suspects.release()
        self._whole.release()
        self._map.close()


def _identity(*words: str) -> bytes:
    return hashlib.sha256("\n".join(words).encode()).digest()


def _mapped(path: Path, parts: Sequence[tuple[int, bytes]]) -> mmap.mmap:
    """Written whole before it is mapped: a hole in it would be a bus error on a full disk."""
    kept = path.read_bytes() if path.exists() else b""
    wanted, place = b"", 0
    for size, identity in parts:
        part = kept[place : place + size + _DIGEST_BYTES]
        wanted += part if part[size:] == identity else bytes(size) + identity
        place += size + _DIGEST_BYTES
    if kept != wanted:
        path.write_bytes(wanted)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), len(wanted))
