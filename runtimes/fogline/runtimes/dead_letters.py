"""`dead-letters FILE`: list, show, discard, purge. JSON objects, one a line; a file that is absent is empty."""

from __future__ import annotations

import base64
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import IO, Any

import orjson

from fogline.runtimes.errors import NotKept
from fogline.runtimes.letter_file import LetterFile
from fogline.runtimes.logs import log
from fogline.runtimes.spec import Exit

Action = Callable[[LetterFile, Namespace], Iterator[dict[str, Any]]]


def dead_letters(arguments: Namespace, out: IO[bytes]) -> int:
    """Do `arguments.action` to `arguments.file`; returns the exit code, 69 when the file cannot be used."""
    try:
        for row in _ACTIONS[arguments.action](LetterFile(arguments.file), arguments):
            out.write(orjson.dumps(row) + b"\n")
    except NotKept as error:
        log.error("%s", error.reason)
        return Exit.NOT_CONNECTED
    out.flush()
    return Exit.DONE


def _list(file: LetterFile, arguments: Namespace) -> Iterator[dict[str, Any]]:
    return file.summaries(arguments.limit)


def _show(file: LetterFile, arguments: Namespace) -> Iterator[dict[str, Any]]:
    for row in file.show(arguments.numbers or None):
        key = None if row["key"] is None else row["key"].decode(errors="replace")
        yield row | _readable(row["payload"]) | {"key": key}


def _discard(file: LetterFile, arguments: Namespace) -> Iterator[dict[str, Any]]:
    yield {"discarded": file.discard(arguments.numbers or None)}


def _purge(file: LetterFile, _arguments: Namespace) -> Iterator[dict[str, Any]]:
    yield {"discarded": file.purge()}


_ACTIONS: dict[str, Action] = {"list": _list, "show": _show, "discard": _discard, "purge": _purge}
ACTIONS = tuple(_ACTIONS)


def _readable(payload: bytes) -> dict[str, str]:
    """Exact bytes in either case."""
    try:
        return {"payload": payload.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(payload).decode(), "encoding": "base64"}
