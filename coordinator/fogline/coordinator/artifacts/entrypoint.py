"""What a code stage's entry point offers, read from its source without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from fogline.coordinator.padl.problems import listed, near_miss, quoted

_ANYTHING = "*"


def entrypoint_problem(file: Path, function: str) -> tuple[str, str]:
    """What is wrong with `function` in the Python file, and a hint; two empty strings when nothing is.

    Raises OSError when the file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in the user's code is no concern of ours
            names = dict(_names(ast.parse(file.read_bytes(), str(file)).body))
    except SyntaxError as problem:
        place = f"{file}:{problem.lineno}" if problem.lineno else str(file)
        return f"{place} is not valid Python: {problem.msg}", ""
    except (ValueError, RecursionError, MemoryError) as problem:
        return f"{file} is not valid Python: {problem}", ""
    if function not in names:
        if _ANYTHING in names:
            return "", ""
        message = f"{file} has no function or class {quoted(function)}{near_miss(function, names)}"
        return message, f"it defines: {listed(names) or 'nothing'}"
    return _asynchronous(names[function], file, function)


def _asynchronous(node: ast.stmt, file: Path, function: str) -> tuple[str, str]:
    called = [node]
    if isinstance(node, ast.ClassDef):
        called = [each for each in node.body if getattr(each, "name", "") == "__call__"]
    for each in called:
        if isinstance(each, ast.AsyncFunctionDef):
            message = f"{file}:{each.lineno} defines {quoted(function)} with 'async def', which a stage cannot call"
            return message, "write 'def': records are handled one batch after the other"
    return "", ""


def _names(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Names the module binds at its top level, also inside `if`, `try`, `with` and loops."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name, statement
            case ast.Assign() | ast.AnnAssign(value=ast.expr()):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                for target in targets:
                    yield from ((node.id, statement) for node in ast.walk(target) if isinstance(node, ast.Name))
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    yield alias.asname or alias.name.partition(".")[0], statement
            case _:
                yield from _names(_inner(statement))


def _inner(statement: ast.stmt) -> Iterator[ast.stmt]:
    for _, value in ast.iter_fields(statement):
        for each in value if isinstance(value, list) else []:
            if isinstance(each, ast.stmt):
                yield each
            elif isinstance(each, (ast.ExceptHandler, ast.match_case)):
                yield from each.body
