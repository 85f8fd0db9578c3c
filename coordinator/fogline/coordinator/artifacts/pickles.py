"""What a pickled scikit-learn model says of itself, read without loading it: loading runs what is in it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

_PIECE_BYTES = 1024 * 1024
_OVERLAP_BYTES = 256
"""Between the pieces that are searched: more than key and version take together."""
_SEARCHED_BYTES = 1024**3
"""Of what is unpacked: a small file may unpack to anything."""

# Between the two strings of an entry of a dictionary there may be that the first is kept, and that a frame begins.
_KEPT = rb"(?:\x94|q.|r.{4}|\np\d+\n)?(?:\x95.{8})?"
_TEXT = rb"[0-9][0-9A-Za-z.]{2,30}"
_SAVED_BY = re.compile(
    rb"_sklearn_version%b(?:(?:\x8c(?P<short>.)|X(?P<long>.{4}))(?P<text>%b)|V(?P<line>%b)\n)" % (_KEPT, _TEXT, _TEXT),
    re.DOTALL,
)
_RELEASE = re.compile(r"\d+(\.\d+){1,3}((rc|post|\.post)\d+)?")

_COMPRESSED: Mapping[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}


def sklearn_version(path: Path) -> str:
    """The release of scikit-learn that saved the joblib or pickle file, such as `1.9.1`; empty when it does not tell.

    A scan for the entry that every estimator has, over what is unpacked: joblib puts raw arrays between the
    instructions, so that these cannot be read one after the other. Memory is bounded. Raises OSError.
    """
    with path.open("rb") as file:
        before = b""
        try:
            for piece in _unpacked(file):
                if found := _in(before + piece):
                    return found
                before = piece[-_OVERLAP_BYTES:]
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError) as problem:
            if isinstance(problem, OSError) and problem.errno is not None:
                raise
    return ""


def _in(data: bytes) -> str:
    for match in _SAVED_BY.finditer(data):
        length = int.from_bytes(match["short"] or match["long"] or b"", "little")
        text = match["text"][:length] if length else match["line"] or b""
        if len(text) >= length and _RELEASE.fullmatch(version := text.decode()):  # else a piece ends in it
            return version
    return ""


def _unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """The contents in pieces, whichever of its compressions joblib used; as they are where it used none known here."""
    head = file.read(6)
    file.seek(0)
    searched = 0
    for piece in _pieces(file, head):
        yield piece
        searched += len(piece)
        if searched > _SEARCHED_BYTES:
            return


def _pieces(file: IO[bytes], head: bytes) -> Iterator[bytes]:
    if head[:1] == b"x":
        yield from _inflated(file)
        return
    opens = next((each for start, each in _COMPRESSED.items() if head.startswith(start)), None)
    with opens(file) if opens else nullcontext(file) as opened:
        while piece := opened.read(_PIECE_BYTES):
            yield piece


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    while not stream.eof and (packed := stream.unconsumed_tail or file.read(_PIECE_BYTES)):
        yield stream.decompress(packed, _PIECE_BYTES)
