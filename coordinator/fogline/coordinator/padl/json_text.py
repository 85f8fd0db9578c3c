"""Strict JSON with places: the standard decoder reads the scalars, this scanner the structure."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from typing import Any, NoReturn

from fogline.coordinator.padl.problems import Problem, error, pointer_to
from fogline.coordinator.padl.tree import NESTING_LIMIT, Node, Unreadable

_BLANK = re.compile(r"[ \t\n\r]*")
_UNFIT = re.compile("[\x00\ud800-\udfff]")
_LARGEST = 2**63 - 1


def fit(value: Any) -> str:
    """Why this scalar has no place in a document (it could not be stored or sent); empty when it has."""
    if isinstance(value, str) and _UNFIT.search(value):
        return "a string holds a NUL character or half of a surrogate pair"
    if isinstance(value, float) and not math.isfinite(value):
        return "the number is too large"
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        return "the number does not fit into 64 bits"
    return ""


def read_json(text: str, file: str) -> tuple[Node, list[Problem]]:
    """The tree of a JSON text and its duplicate keys. Raises Unreadable at the first syntax error."""
    scanner = _Scanner(text, file)
    root, end = scanner.value(scanner.skip(0), 0, (), 0)
    if scanner.skip(end) != len(text):
        scanner.refuse("text after the end of the document", scanner.skip(end))
    return root, scanner.duplicates


class _Scanner:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.duplicates: list[Problem] = []
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._decoder = json.JSONDecoder(parse_constant=_no_constant)

    def line(self, at: int) -> int:
        return bisect_right(self._line_starts, at)

    def skip(self, at: int) -> int:
        match = _BLANK.match(self.text, at)
        return match.end() if match else at

    def refuse(self, message: str, at: int) -> NoReturn:
        line = self.line(at)
        column = at - self._line_starts[line - 1] + 1
        raise Unreadable(f"not valid JSON at column {column}: {message}", line)

    def value(self, at: int, line: int, keys: tuple[str | int, ...], depth: int) -> tuple[Node, int]:
        """The value that starts at `at`; `line` is the line of its key, 0 for the value's own."""
        if depth > NESTING_LIMIT:
            self.refuse(f"nested deeper than {NESTING_LIMIT} levels", at)
        opening = self.text[at : at + 1]
        place = line or self.line(at)
        if opening == "{":
            members, end = self._members(at, keys, depth)
            return Node(members, self.file, place), end
        if opening == "[":
            items, end = self._items(at, keys, depth)
            return Node(items, self.file, place), end
        scalar, end = self._scalar(at)
        return Node(scalar, self.file, place), end

    def _members(self, at: int, keys: tuple[str | int, ...], depth: int) -> tuple[dict[str, Node], int]:
        members: dict[str, Node] = {}
        at = self.skip(at + 1)
        if self.text[at : at + 1] == "}":
            return members, at + 1
        while True:
            if self.text[at : at + 1] != '"':
                self.refuse("expected a key in double quotes", at)
            key, end = self._scalar(at)
            colon = self.skip(end)
            if self.text[colon : colon + 1] != ":":
                self.refuse("expected ':' after the key", colon)
            if key in members:
                self._duplicate(key, at, members[key].line, keys)
            members[key], at = self.value(self.skip(colon + 1), self.line(at), (*keys, key), depth + 1)
            at, ended = self._next(at, "}")
            if ended:
                return members, at

    def _items(self, at: int, keys: tuple[str | int, ...], depth: int) -> tuple[list[Node], int]:
        items: list[Node] = []
        at = self.skip(at + 1)
        if self.text[at : at + 1] == "]":
            return items, at + 1
        while True:
            node, at = self.value(at, 0, (*keys, len(items)), depth + 1)
            items.append(node)
            at, ended = self._next(at, "]")
            if ended:
                return items, at

    def _next(self, at: int, closing: str) -> tuple[int, bool]:
        """Step over a comma (False) or over the closing bracket (True)."""
        at = self.skip(at)
        found = self.text[at : at + 1]
        if found == closing:
            return at + 1, True
        if found != ",":
            self.refuse(f"expected ',' or '{closing}'", at)
        behind = self.skip(at + 1)
        if self.text[behind : behind + 1] == closing:
            self.refuse(f"a comma before '{closing}'", at)
        return behind, False

    def _scalar(self, at: int) -> tuple[Any, int]:
        try:
            value, end = self._decoder.raw_decode(self.text, at)
        except json.JSONDecodeError as problem:
            self.refuse(problem.msg[:1].lower() + problem.msg[1:], problem.pos)
        except ValueError as problem:  # NaN, or an integer of thousands of digits
            self.refuse(str(problem), at)
        if reason := fit(value):
            self.refuse(reason, at)
        return value, end

    def _duplicate(self, key: str, at: int, first_line: int, keys: tuple[str | int, ...]) -> None:
        found = error(pointer_to(*keys, key), f"the key {key!r} is given twice, first on line {first_line}")
        self.duplicates.append(
            Problem("error", found.pointer, found.message, "keep one of them", self.file, self.line(at))
        )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
