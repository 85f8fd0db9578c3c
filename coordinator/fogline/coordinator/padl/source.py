"""From a file of the user's to a tree with places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fogline.coordinator.padl.json_text import read_json
from fogline.coordinator.padl.problems import Problem
from fogline.coordinator.padl.tree import Node, Unreadable, overlay
from fogline.coordinator.padl.yaml_text import read_yaml

SIZE_LIMIT_BYTES = 1024 * 1024
_SHAPE = "a document is an object with 'version', 'pipeline' and 'queues'"


def read_source(path: Path) -> tuple[Node | None, list[Problem]]:
    """The tree of one JSON or YAML file and what is wrong with its text; no tree when it cannot be read."""
    file = str(path)
    try:
        text = _text_of(path)
        if not text.strip():
            raise Unreadable("the document is empty", hint=_SHAPE)
        read = read_json if _is_json(path, text) else read_yaml
        root, problems = read(text, file)
        if not isinstance(root.value, dict):
            raise Unreadable("the top level is not an object", root.line, _SHAPE)
    except Unreadable as problem:
        return None, [Problem("error", "", problem.message, problem.hint, file, problem.line)]
    return root, problems


def merged(layers: Sequence[Node]) -> Node:
    """Later layers laid over earlier ones; needs at least one."""
    root = layers[0]
    for layer in layers[1:]:
        root = overlay(root, layer)
    return root


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise Unreadable("there is no such file", hint="give the path of a PADL document") from None
    except IsADirectoryError:
        raise Unreadable("this is a folder, not a document", hint="give the file inside it") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL character in the path
        raise Unreadable(f"the file cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem
    if len(data) > SIZE_LIMIT_BYTES:
        raise Unreadable(f"the document is larger than {SIZE_LIMIT_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise Unreadable("the file is not UTF-8 text", line, "save it as UTF-8") from problem


def _is_json(path: Path, text: str) -> bool:
    """The suffix decides, and without one the first character."""
    suffix = path.suffix.lower()
    if suffix in {".json", ".yaml", ".yml"}:
        return suffix == ".json"
    return text.lstrip()[:1] in {"{", "["}
