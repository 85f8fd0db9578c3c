"""Tracebacks for the person who wrote the stage: our own frames left out."""

from __future__ import annotations

import traceback
from pathlib import Path

TRACE_LIMIT_BYTES = 4096
SENTENCE_LIMIT = 1000
_OWN = str(Path(__file__).parent)


def user_trace(error: BaseException) -> str:
    """The traceback without this package's frames, its end kept when it is too long."""
    shown = traceback.TracebackException.from_exception(error)
    seen = shown
    while seen is not None:
        seen.stack[:] = [frame for frame in seen.stack if not _ours(frame.filename)]
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]
    text = "".join(shown.format()).encode()
    return text[-TRACE_LIMIT_BYTES:].decode(errors="ignore")


def user_place(error: BaseException, folder: Path) -> str:
    """`file:line` of the innermost frame inside `folder`, or nothing."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    root = str(folder.resolve())
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if str(Path(frame.filename).resolve()).startswith(root):
            return f"{Path(frame.filename).resolve().relative_to(root)}:{frame.lineno}"
    return ""


def sentence(error: BaseException) -> str:
    """`ValueError: what it says`, on one line."""
    try:
        words = " ".join(str(error)[:SENTENCE_LIMIT].split())
    except Exception as broken:  # noqa: BLE001 - the exception is the user's own class
        words = f"(its words cannot be shown: {type(broken).__name__})"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _ours(filename: str) -> bool:
    return filename.startswith((_OWN, "<frozen importlib"))
