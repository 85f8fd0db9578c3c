"""The words both ends share: names, what is wanted of a copy, where it is, error kinds, the one error type.

Standard library only: the one module of the wire that a pure core may import.
"""

from __future__ import annotations

import re
from enum import StrEnum

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Pipeline ids, stage, queue, machine and node names."""
NAME_RULE = "letters, digits, '_' and '-', at most 63, the first a letter or digit"


class Wanted(StrEnum):
    """What the coordinator wants of one copy of a segment."""

    PREPARED = "prepared"
    RUNNING = "running"
    STOPPED = "stopped"


class CopyState(StrEnum):
    """Where one copy is, as its agent reports it; drawn in the agent's `core/desired.py`."""

    UNKNOWN = "unknown"
    """Nothing was heard of it yet, or a state of a newer agent."""
    PREPARING = "preparing"
    PREPARED = "prepared"
    STARTING = "starting"
    LOADED = "loaded"
    READY = "ready"
    DRAINING = "draining"
    RESTARTING = "restarting"
    FAILED = "failed"
    GONE = "gone"
    FINISHED = "finished"


class ErrorKind(StrEnum):
    """Every way an operation can be refused. The catalogue in `wire.errors` gives each its numbers."""

    INVALID_DOCUMENT = "invalid-document"
    INVALID_ARGUMENT = "invalid-argument"
    NOT_FOUND = "not-found"
    AMBIGUOUS = "ambiguous"
    UNPLACEABLE = "unplaceable"
    NOT_AVAILABLE_YET = "not-available-yet"
    FAILED = "failed"
    CONFLICT = "conflict"
    DEADLINE = "deadline"
    UNREACHABLE = "unreachable"
    ADDRESS_IN_USE = "address-in-use"
    VERSION_MISMATCH = "version-mismatch"
    OTHER_CLUSTER = "other-cluster"
    CORRUPT = "corrupt"
    REFUSED = "refused"
    INTERNAL = "internal"


class FoglineError(Exception):
    """A refusal with a sentence for the person: what is wrong and what to do about it."""

    def __init__(self, kind: ErrorKind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence
