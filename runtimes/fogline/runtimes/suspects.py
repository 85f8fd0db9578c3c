"""Finding the message that kills the process.

Before user code runs, the ids of the messages it gets are written down (in the mapped state file; in the
common case one slice). What stands there at the next start was inside user code when the process died:

- several: one of them may have done it. They are **suspects**: each runs alone when it comes again.
- one: it died **alone**, which counts as an attempt. Nothing else counts: a message that an operator's
  `kill -9`, or the machine, interrupts becomes a dead letter only when that hits it alone in all its
  attempts in a row.

A suspect that passes is forgotten. One that never comes again leaves after a day, or when there are too many
others. A message is known by its id; where that names content, equal messages share their attempts.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

FORGOTTEN_S = 24 * 3600.0
_ID_BYTES = 128
"""Room per id, on average; when it does not suffice, digests are written instead of ids."""
_DIGEST_BYTES = 16
_HEADER = struct.Struct("<qqqq")
_COUNT, _STAGE, _TEXT_BYTES, _LETTER = range(4)
"""How many are inside user code; at which stage; length of their ids, 0 when they are digests; the dead letter's
number, when it is one that is replayed."""
_SLOT = struct.Struct(f"<{_DIGEST_BYTES}sqqd")


@dataclass
class Suspect:
    """What is known of one id."""

    attempts: int
    """How often the process died while it was alone in user code."""
    stage: int
    """Place of the stage it was in when the process died last."""
    at: float
    slot: int


def room_bytes(max_size: int) -> int:
    """What `Suspects` needs for batches of this size: one batch of ids, and twice as many suspects."""
    return _HEADER.size + _ID_BYTES * max_size + _SLOT.size * _slots(max_size)


class Suspects:
    """Used by the pump's thread alone."""

    def __init__(self, max_size: int, room: memoryview | None = None) -> None:
        """In `room`, of `room_bytes`, or in plain memory. What stands there is from a process that died."""
        self._room = memoryview(bytearray(room_bytes(max_size))) if room is None else room
        self._header = self._room[: _HEADER.size].cast("q")
        self._begin = _HEADER.size
        self._text_limit = _ID_BYTES * max_size
        self._table = self._begin + self._text_limit
        self._known: dict[bytes, Suspect] = {}
        self._free: list[int] = []
        self.died_in_letter: tuple[int, int] | None = None
        """Number of the dead letter that was being replayed when the process died, and the place of the stage."""
        self._read(_slots(max_size), time.time())

    @property
    def anybody(self) -> bool:
        """Whether there is anybody to run alone."""
        return bool(self._known)

    def enter(self, ids: Sequence[str], letter: int = 0) -> None:
        """Note whose payloads user code is about to get: these messages, or one dead letter (its number).

        A letter is nobody's suspect: no broker brings it again.
        """
        whole, count, header, begin = "".join(ids), len(ids), self._header, self._begin
        text = b"" if not whole or "\n" in whole else "\n".join(ids).encode(errors="surrogatepass")
        if not text or len(text) > self._text_limit:
            self._room[begin : begin + _DIGEST_BYTES * count] = b"".join(map(_digest, ids))
            header[_TEXT_BYTES] = 0
        else:
            self._room[begin : begin + len(text)] = text
            header[_TEXT_BYTES] = len(text)
        header[_STAGE] = 0
        header[_LETTER] = letter
        header[_COUNT] = count  # last: what a death finds is whole, or not there

    def at(self, stage: int) -> None:
        """Note that they are in this stage now, counted in topological order."""
        self._header[_STAGE] = stage

    def leave(self) -> None:
        """Note that user code has returned: whoever dies now did not die of these messages."""
        self._header[_COUNT] = 0

    def find(self, ident: str) -> Suspect | None:
        """What is held against this message, if anything."""
        return self._known.get(_digest(ident)) if self._known else None

    def forget(self, ident: str) -> None:
        """It passed, or begins anew."""
        known = self._known.pop(_digest(ident), None) if self._known else None
        if known is not None:
            self._clear(known.slot)

    def condemn(self, ident: str, retries: int) -> None:
        """It became a dead letter. The next one with this id gets one attempt, not all of them again."""
        known = self.find(ident)
        if known is not None:
            known.attempts = retries
            self._write(_digest(ident), known)

    def close(self) -> None:
        """Release `room`, so that its file can be closed."""
        self._header.release()

    def _read(self, slots: int, now: float) -> None:
        for slot in range(slots):
            key, attempts, stage, at = _SLOT.unpack_from(self._room, self._table + slot * _SLOT.size)
            if at and now - at < FORGOTTEN_S:
                self._known[key] = Suspect(attempts, stage, at, slot)
            else:
                self._clear(slot)
        dead = self._inside()
        self.leave()
        if dead and self._header[_LETTER]:
            self.died_in_letter = self._header[_LETTER], self._header[_STAGE]
            return
        for key in dead:
            self._suspect(key, now, alone=len(dead) == 1)

    def _inside(self) -> list[bytes]:
        count, length = self._header[_COUNT], self._header[_TEXT_BYTES]
        if length:
            text = bytes(self._room[self._begin : self._begin + length])
            return [hashlib.sha256(ident).digest()[:_DIGEST_BYTES] for ident in text.split(b"\n")] if count else []
        raw = bytes(self._room[self._begin : self._begin + count * _DIGEST_BYTES])
        return [raw[place : place + _DIGEST_BYTES] for place in range(0, len(raw), _DIGEST_BYTES)]

    def _suspect(self, key: bytes, now: float, *, alone: bool) -> None:
        known = self._known.get(key)
        if known is None:
            if not self._free:
                self._make_room()
            known = self._known[key] = Suspect(0, 0, now, self._free.pop())
        known.attempts += alone
        known.stage, known.at = self._header[_STAGE], now
        self._write(key, known)

    def _make_room(self) -> None:
        """Whoever has the fewest attempts goes, the oldest of them first: those may become suspect again."""
        key = min(self._known, key=lambda each: (self._known[each].attempts, self._known[each].at))
        self._clear(self._known.pop(key).slot)

    def _write(self, key: bytes, known: Suspect) -> None:
        _SLOT.pack_into(self._room, self._table + known.slot * _SLOT.size, key, known.attempts, known.stage, known.at)

    def _clear(self, slot: int) -> None:
        begin = self._table + slot * _SLOT.size
        self._room[begin : begin + _SLOT.size] = bytes(_SLOT.size)
        self._free.append(slot)


def _slots(max_size: int) -> int:
    return 2 * max_size


def _digest(ident: str) -> bytes:
    return hashlib.sha256(ident.encode(errors="surrogatepass")).digest()[:_DIGEST_BYTES]
