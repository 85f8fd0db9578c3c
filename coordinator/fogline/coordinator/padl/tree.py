"""A document as a tree whose every value knows the file and line that set it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fogline.coordinator.padl.problems import keys_of

NESTING_LIMIT = 64
"""Objects and lists inside one another; deeper documents are refused."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `line` (1-based) is the line of its key, or of the value itself in a list."""

    value: dict[str, Node] | list[Node] | str | int | float | bool | None
    file: str
    line: int


class Unreadable(Exception):
    """The text is not a document; `line` is 0 when the whole file is meant."""

    def __init__(self, message: str, line: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint


def plain(node: Node) -> Any:
    """The value without places: what `json.loads` would give."""
    if isinstance(node.value, dict):
        return {key: plain(each) for key, each in node.value.items()}
    if isinstance(node.value, list):
        return [plain(each) for each in node.value]
    return node.value


def overlay(target: Node | None, patch: Node) -> Node:
    """`patch` laid over `target` as RFC 7396 says: objects merge, null deletes, all else replaces."""
    if not isinstance(patch.value, dict):
        return patch
    beneath = target.value if target is not None and isinstance(target.value, dict) else None
    members = dict(beneath or {})
    for key, each in patch.value.items():
        if each.value is None:
            members.pop(key, None)
        else:
            members[key] = overlay(members.get(key), each)
    place = patch if target is None or beneath is None else target
    return Node(members, place.file, place.line)


def find(root: Node, pointer: str) -> Node:
    """The value at `pointer`, or its nearest ancestor that exists."""
    node = root
    for key in keys_of(pointer):
        if isinstance(node.value, dict) and key in node.value:
            node = node.value[key]
        elif isinstance(node.value, list) and key.isdecimal() and len(key) < 9 and int(key) < len(node.value):
            node = node.value[int(key)]
        else:
            break
    return node
