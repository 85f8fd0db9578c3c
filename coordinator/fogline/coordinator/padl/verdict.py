"""The whole judgement of what a user wrote: text, shape, meaning and availability in one list."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.check import check
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.parse import Loaded, parse
from fogline.coordinator.padl.problems import Problem, keys_of
from fogline.coordinator.padl.sentences import correction

_PARTS = frozenset({"pipeline", "queues", "infra"})
_NEEDLESS = {"id": "unnamed", "version": "1.0", "containerized": False, "deploy-mode": "remote"}
"""Top-level keys that nothing else is judged by, with a value to go on with."""
_ROUNDS = 3


def judge(loaded: Loaded) -> list[Problem]:
    """Every problem of the document, placed, in the order of the files.

    Where the shape is wrong in places, the meaning of the rest is judged all the same, so that one bad
    stage hides no problem of another.
    """
    document, broken = (loaded.document, frozenset[str]()) if loaded.document else _sound_part(loaded.raw)
    found = list(loaded.problems)
    if document is not None:
        found += loaded.placed([*check(document, broken), *unavailable(document)])
    return in_order(found, loaded.files)


def in_order(problems: Iterable[Problem], files: Sequence[str]) -> list[Problem]:
    """Each once, file by file as given and line by line; the command line comes last."""
    rank = {file: number for number, file in reversed(list(enumerate(files)))}
    return sorted(dict.fromkeys(problems), key=lambda each: (rank.get(each.file, len(files)), each.line))


def _sound_part(raw: dict[str, Any]) -> tuple[Document | None, frozenset[str]]:
    """What is left when wrong keys are corrected and wrong parts taken out, and the names of those parts.

    None when too little is left to judge by.
    """
    rest = copy.deepcopy(raw)
    broken: set[str] = set()
    for _ in range(_ROUNDS):
        document, problems = parse(rest)
        if document is not None:
            return document, frozenset(broken)
        for problem in problems:
            taken = _take_out(rest, keys_of(problem.pointer))
            if taken is None:
                return None, frozenset()
            broken |= taken
    return None, frozenset()


def _take_out(raw: dict[str, Any], keys: list[str]) -> set[str] | None:
    """Correct or drop an unknown key, else remove the stage, queue or machine around it and tell its name."""
    right = correction(tuple(keys))
    if right is not None:
        _rename(raw, keys, right)
        return set()
    if len(keys) > 1 and keys[0] in _PARTS:
        raw[keys[0]].pop(keys[1], None)
        return {keys[1]}
    if not keys or keys[0] not in _NEEDLESS:
        return None
    raw[keys[0]] = _NEEDLESS[keys[0]]
    return set()


def _rename(raw: dict[str, Any], keys: list[str], right: str) -> None:
    """Move the value of an unknown key to `right`, unless that is empty or taken."""
    holder = raw
    for key in keys[:-1]:
        if key not in holder:  # a whole part taken out for an earlier problem
            return
        holder = holder[key]
    value = holder.pop(keys[-1], None)
    if right:
        holder.setdefault(right, value)
