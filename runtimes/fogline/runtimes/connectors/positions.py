"""How far a reader of files has got: one small file per reader, in a folder of the node that outlives revisions.

What is acknowledged is in it before long (`SAVE_S`, and at every orderly end). What may have been handed out beyond
that is in it **before** it is handed out, as a number of messages: after any death that many are marked as redelivered.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import astuple, dataclass
from pathlib import Path

import orjson

from fogline.runtimes.errors import NotConnected
from fogline.runtimes.spec import POSITIONS_VARIABLE

SAVE_S = 0.2
"""Progress is on the disk at the latest so long after it was acknowledged."""
MOST_PLACES = 10_000
"""Of files that are not there any more the oldest are forgotten beyond so many."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far one file was read, and by what it is known again."""

    inode: int
    head: str
    """Digest of its first `head_bytes`."""
    head_bytes: int
    offset: int
    lines: int


class Positions:
    """Of one reader, named by its client id."""

    def __init__(self, reader: str) -> None:
        self._reader = reader
        self.places: dict[str, Place] = {}
        """Path -> place; the one written last is the last."""
        self.ahead = 0
        """How many messages beyond the places may have been handed out by whoever saved them."""

    @property
    def path(self) -> Path:
        """The file. The folder is the agent's to choose, as that of secrets."""
        name = hashlib.sha256(self._reader.encode()).hexdigest()[:32]
        return Path(os.environ.get(POSITIONS_VARIABLE) or ".") / f"{name}.json"

    def load(self) -> None:
        """Raises NotConnected when there is a file that cannot be read: beginning anew is for people to decide."""
        self.places, self.ahead = {}, 0
        try:
            known = orjson.loads(self.path.read_bytes())
            self.places = {path: Place(*values) for path, values in known["files"].items()}
            self.ahead = int(known["ahead"])
        except FileNotFoundError:
            return
        except OSError as error:
            raise NotConnected(f"the positions in {self.path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NotConnected(f"{self.path} holds no positions: remove it to read everything anew") from None

    def set(self, path: str, place: Place) -> None:
        """This file is acknowledged so far."""
        self.places.pop(path, None)
        self.places[path] = place

    def save(self, ahead: int) -> None:
        """Durably: after a power cut the file holds the old positions or the new ones. Raises OSError."""
        path = self.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = {name: astuple(place) for name, place in self.places.items()}
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(orjson.dumps({"reader": self._reader, "ahead": ahead, "files": files}))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
        self.ahead = ahead

    def forget_missing(self) -> None:
        """Bound what is remembered of files that are gone."""
        for path in list(self.places)[: max(0, len(self.places) - MOST_PLACES)]:
            if not os.path.exists(path):
                del self.places[path]

    def release(self) -> None:
        """The reader is no more."""
        self.path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
