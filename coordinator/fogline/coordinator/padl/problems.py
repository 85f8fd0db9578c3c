"""A problem in a document: its place, what is wrong, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]

_HIDDEN = frozenset({"pass", "password", "secret", "secrets", "token", "environment"})
"""Nothing below a key of these names is ever printed."""
_LONGEST_SHOWN = 60
_MOST_COMPARED = 300
"""Names a misspelt one is compared with: comparing every name with every other takes minutes in a vast document."""


@dataclass(frozen=True)
class Problem:
    """One finding. Only an error stops a document; `file` and `line` (1-based) stay empty until located."""

    severity: Severity
    pointer: str
    """JSON pointer (RFC 6901) into the merged document; empty for the document as a whole."""
    message: str
    hint: str = ""
    file: str = ""
    line: int = 0


def error(pointer: str, message: str, hint: str = "") -> Problem:
    """A finding that stops the document."""
    return Problem("error", pointer, message, hint)


def warning(pointer: str, message: str, hint: str = "") -> Problem:
    """A finding the user should know of; the document is accepted."""
    return Problem("warning", pointer, message, hint)


def pointer_to(*keys: str | int) -> str:
    """The JSON pointer of these keys, escaped."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def keys_of(pointer: str) -> list[str]:
    """The keys of a JSON pointer, unescaped."""
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]


def not_this(value: Any, pointer: str) -> str:
    """`, not 'abc'` for the end of a sentence; empty where the value may be a secret."""
    keys = keys_of(pointer)
    inside_machine = keys[:1] == ["infra"] and (len(keys) == 2 or keys[-1:] == ["sshConfig"])
    if inside_machine or not _HIDDEN.isdisjoint(key.lower() for key in keys):
        return ""
    return f", not {_shown(value)}"


def near_miss(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'constraints'?` for the end of a sentence; empty when nothing known is close."""
    lowered = {each.lower(): each for each in known}
    if len(word) > _LONGEST_SHOWN or len(lowered) > _MOST_COMPARED:
        return ""
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names for a hint: sorted, and cut off when there are many."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 12} more" if len(ordered) > 12 else ""
    return ", ".join(ordered[:12]) + more


def quoted(name: str) -> str:
    """A name of the user's for a sentence: control characters escaped, cut off when long."""
    return repr(name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "…")


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return str(value)[:_LONGEST_SHOWN]
    return "an object" if isinstance(value, dict) else "a list"
