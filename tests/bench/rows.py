"""The rows of the bench: what was measured, against what, and whether the budget holds. Arithmetic only."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_BUDGET = re.compile(r"(<=|>=) (\d+(?:\.\d+)?)(x| .+)")


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` is always ours divided by theirs; `budget` says which way is good."""

    name: str
    ours: float | None
    """None: it could not be measured."""
    unit: str
    against: str | None = None
    theirs: float | None = None
    ratio: float | None = None
    budget: str | None = None
    """`<= 3x` and `>= 2x` judge the ratio, `<= 48 MB` judges ours; None: reported only."""

    @property
    def holds(self) -> bool | None:
        """Whether the budget holds; None without one, or without a figure."""
        if self.budget is None:
            return None
        found = _BUDGET.fullmatch(self.budget)
        if found is None:
            raise ValueError(f"{self.name}: {self.budget!r} is not a budget such as '>= 2x' or '<= 48 MB'")
        sign, limit, what = found.groups()
        if what != "x" and what.strip() != self.unit:
            raise ValueError(f"{self.name}: the budget is in{what}, the figure in {self.unit}")
        value = self.ratio if what == "x" else self.ours
        if value is None:
            return None
        return value <= float(limit) if sign == "<=" else value >= float(limit)


def measured(name: str, ours: float, unit: str, budget: str | None = None) -> Row:
    """A figure of ours without a peer."""
    return Row(name, ours, unit, budget=budget)


def compared(
    name: str, unit: str, against: str, pairs: Sequence[tuple[float, float]], budget: str | None = None
) -> Row:
    """Ours against a peer, from runs that took turns: medians, and the median of each pair's ratio."""
    ours, theirs = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    return Row(name, ours, unit, against, theirs, ratio, budget)


def not_compared(name: str, ours: float, unit: str, against: str, budget: str | None = None) -> Row:
    """Ours, where the peer could not be measured: `against` says why."""
    return Row(name, ours, unit, against, budget=budget)


def unmeasured(name: str) -> Row:
    """A group of rows that failed."""
    return Row(name, None, "")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0..1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def as_json(rows: Sequence[Row]) -> str:
    """The list that `build/bench.json` holds."""
    keys = ("name", "ours", "unit", "against", "theirs", "ratio", "budget", "holds")
    found = [asdict(row) | {"holds": row.holds} for row in rows]
    return json.dumps([{key: each[key] for key in keys} for each in found], indent=1) + "\n"


def table(rows: Sequence[Row]) -> str:
    """The same for people: one line a row, what does not hold marked."""
    head = ("what", "ours", "against", "theirs", "ratio", "budget", "")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    right = {1, 3, 4}
    lines = [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    if row.ours is None:
        return (row.name, "", "", "", "", "", "NOT MEASURED")
    theirs = "" if row.theirs is None else f"{_short(row.theirs)} {row.unit}"
    ratio = "" if row.ratio is None else f"{_short(row.ratio)}x"
    verdict: dict[Any, str] = {None: "", True: "holds", False: "DOES NOT HOLD"}
    missing = row.against is not None and row.theirs is None
    ours = f"{_short(row.ours)} {row.unit}"
    return (
        row.name,
        ours,
        row.against or "",
        theirs,
        ratio,
        row.budget or "",
        "NOT COMPARED" if missing else verdict[row.holds],
    )


def _short(value: float) -> str:
    """Three figures, or the whole number when it has more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
