"""YAML with places, read as data only: YAML 1.2's JSON types, no tags of other kinds, bounded aliases.

YAML 1.1, which the library reads by itself, takes `restart: no` for false and `22:22` for a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from fogline.coordinator.padl.json_text import fit
from fogline.coordinator.padl.problems import Problem, pointer_to
from fogline.coordinator.padl.tree import NESTING_LIMIT, Node, Unreadable

_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"
_Keys = tuple[str | int, ...]
_Pair = tuple[yaml.Node, yaml.Node]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # the library's own way of naming the plain types
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > NESTING_LIMIT + 1:
            raise Unreadable(f"nested deeper than {NESTING_LIMIT} levels", self.line + 1)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_NUMBER = r"-?(?:0|[1-9][0-9]*)"
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "int", re.compile(rf"^{_NUMBER}$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    _TAG + "float", re.compile(rf"^{_NUMBER}(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"), list("-0123456789")
)


def read_yaml(text: str, file: str) -> tuple[Node, list[Problem]]:
    """The tree of a YAML text and its duplicate keys. Raises Unreadable for what is not plain data."""
    try:
        loader = _Loader(text)
        try:
            top = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f" at column {mark.column + 1}" if mark else ""
        raise Unreadable(f"not valid YAML{where}: {problem.problem}", mark.line + 1 if mark else 0) from problem
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as problem:  # characters YAML forbids, escapes beyond Unicode
        position = getattr(problem, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
        raise Unreadable("not valid YAML: it holds a character that is not allowed", line) from problem
    if top is None:
        return Node(None, file, 1), []
    builder = _Builder(file, budget=2 * len(text) + 1024)
    return builder.build(top, top.start_mark.line + 1, (), 0), builder.duplicates


class _Builder:
    """Turns composed nodes into the tree. `budget` bounds what aliases may expand to, in characters."""

    def __init__(self, file: str, budget: int) -> None:
        self.file = file
        self.budget = budget
        self.duplicates: list[Problem] = []

    def build(self, node: yaml.Node, line: int, keys: _Keys, depth: int) -> Node:
        if depth > NESTING_LIMIT:
            raise Unreadable(f"nested deeper than {NESTING_LIMIT} levels", line)
        self._spend(1, line)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            members = {
                key: self.build(value, key_node.start_mark.line + 1, (*keys, key), depth + 1)
                for key, (key_node, value) in self._pairs(node, keys, depth).items()
            }
            return Node(members, self.file, line)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = [
                self.build(each, each.start_mark.line + 1, (*keys, index), depth + 1)
                for index, each in enumerate(node.value)
            ]
            return Node(items, self.file, line)
        if isinstance(node, yaml.ScalarNode):
            self._spend(len(node.value), line)
            return Node(_scalar(node), self.file, line)
        raise _refused_tag(node)

    def _pairs(self, node: yaml.MappingNode, keys: _Keys, depth: int) -> dict[str, _Pair]:
        """Key -> its nodes; what `<<` brings in stands below the mapping's own keys."""
        own: dict[str, _Pair] = {}
        merged: dict[str, _Pair] = {}
        for key_node, value in node.value:
            key = _key(key_node)
            self._spend(len(key) + 1, key_node.start_mark.line + 1)
            if key == _MERGE and key_node.style is None:
                for source in _merge_sources(value):
                    for name, pair in self._below(source, keys, depth).items():
                        merged.setdefault(name, pair)
                continue
            if key in own:
                self._duplicate(key, own[key][0], key_node, keys)
            own[key] = (key_node, value)
        return merged | own

    def _below(self, source: yaml.MappingNode, keys: _Keys, depth: int) -> dict[str, _Pair]:
        if depth > NESTING_LIMIT:
            raise Unreadable(f"nested deeper than {NESTING_LIMIT} levels", source.start_mark.line + 1)
        return self._pairs(source, keys, depth + 1)

    def _spend(self, size: int, line: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise Unreadable("its aliases expand to far more than the document itself", line, "repeat less by alias")

    def _duplicate(self, key: str, first: yaml.Node, again: yaml.Node, keys: _Keys) -> None:
        message = f"the key {key!r} is given twice, first on line {first.start_mark.line + 1}"
        line = again.start_mark.line + 1
        self.duplicates.append(Problem("error", pointer_to(*keys, key), message, "keep one of them", self.file, line))


def _merge_sources(value: yaml.Node) -> Iterator[yaml.MappingNode]:
    for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
        if not isinstance(each, yaml.MappingNode):
            raise Unreadable("'<<' merges mappings only", each.start_mark.line + 1)
        yield each


def _key(node: yaml.Node) -> str:
    """JSON knows string keys only: a scalar's text is its key."""
    if not isinstance(node, yaml.ScalarNode):
        raise Unreadable("a key is a plain word, not a list or mapping", node.start_mark.line + 1)
    text = str(node.value)
    if reason := fit(text):
        raise Unreadable(reason, node.start_mark.line + 1)
    return text


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    value = _converted(node)
    if reason := fit(value):
        raise Unreadable(reason, node.start_mark.line + 1)
    return value


def _converted(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text = str(node.value)
    kind = node.tag.removeprefix(_TAG)
    try:
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return int(text)
            case "float":
                return float(text)
    except (ValueError, KeyError) as problem:
        raise Unreadable(f"this is not of the type !!{kind}", node.start_mark.line + 1) from problem
    raise _refused_tag(node)


def _refused_tag(node: yaml.Node) -> Unreadable:
    tag = node.tag.replace(_TAG, "!!")
    return Unreadable(f"the tag {tag!r} is not accepted: a document is plain data", node.start_mark.line + 1)


def yaml_of(value: Any) -> str:
    """A value as people write it, in its own order."""
    return str(yaml.safe_dump(value, sort_keys=False, width=120))
