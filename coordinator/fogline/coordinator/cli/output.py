"""The one place that prints: tables for people on stdout, JSON for tools, sentences on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fogline.coordinator.padl.problems import Problem


class Output(StrEnum):
    """`--output`."""

    TABLE = "table"
    JSON = "json"


def say(sentence: str) -> None:
    """A line of progress or a remark, on stderr, so that stdout holds results only."""
    print(sentence, file=sys.stderr, flush=True)


def teller(output: Output) -> Callable[[str], None]:
    """Where progress is told: nowhere when the result is for a tool."""
    return say if output is Output.TABLE else lambda _: None


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def json_text(value: Any) -> str:
    """A value as documents write it, on one line."""
    return json.dumps(value, ensure_ascii=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A borderless table; a column whose every cell is a number is right-aligned."""
    rows = [list(row) for row in rows]
    result = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        result.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(str(cell)) for cell in row))
    return result


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; where stdout is no terminal it is as wide as it needs to be."""
    console = Console() if sys.stdout.isatty() else Console(width=240)
    console.print(table(columns, rows), soft_wrap=not sys.stdout.isatty())


def problem_json(problem: Problem) -> dict[str, Any]:
    """The stable shape of a problem."""
    return {
        "severity": problem.severity,
        "pointer": problem.pointer,
        "file": problem.file,
        "line": problem.line,
        "message": problem.message,
        "hint": problem.hint,
    }


def problem_line(problem: Problem) -> str:
    """`FILE:LINE: error at /pointer: message (hint)`."""
    line = f":{problem.line}" if problem.line else ""
    place = f"{problem.file}{line}: " if problem.file else ""
    where = f" at {problem.pointer}" if problem.pointer else ""
    hint = f"\n    {problem.hint}" if problem.hint else ""
    return f"{place}{problem.severity}{where}: {problem.message}{hint}"


def say_problems(problems: Iterable[Problem]) -> None:
    """Every problem, errors first, on stderr."""
    for problem in sorted(problems, key=lambda each: (each.severity != "error", each.file, each.line, each.pointer)):
        say(problem_line(problem))
