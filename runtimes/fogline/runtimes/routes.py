"""`route`: the field of a record that names the outputs it goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fogline.runtimes.errors import BadMessage


class Route:
    """Reads the field of a stage's result; every output has the name that the document gives it there."""

    def __init__(self, field: str, outputs: Sequence[str]) -> None:
        """`outputs`: queues by their name, links `a..b` by that of the stage they lead to."""
        self._field = field
        self._queues = {queue.rpartition("..")[2]: queue for queue in outputs}

    def __call__(self, record: Any) -> frozenset[str]:
        """The queues and links that get this record; none for an empty list.

        Raises BadMessage when the field is missing, or names what is no output.
        """
        if not isinstance(record, dict):
            raise BadMessage(f"routed by {self._field!r}: the result is no object, but {type(record).__name__}")
        if self._field not in record:
            has = ", ".join(map(repr, record)) or "no fields"
            raise BadMessage(f"routed by {self._field!r}: the result has no such field; it has {has}")
        named = record[self._field]
        names = named if isinstance(named, list | tuple) else (named,)
        try:
            return frozenset([self._queues[name] for name in names])
        except (KeyError, TypeError):
            known = ", ".join(self._queues)
            raise BadMessage(f"routed by {self._field!r}: {named!r} is no output; there are {known}") from None
