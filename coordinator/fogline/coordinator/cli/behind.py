"""How far behind stages are, as `coord status` shows it: LAG and OLDEST."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fogline.v1 import common_pb2 as common

Row = dict[str, Any]


def behind(observed: common.StageObserved) -> Row:
    """`lag` of all queues that a stage reads, `oldest_s` of any, and each of them under `reads`. None: not known."""
    reads = [
        {
            "queue": each.queue,
            "lag": each.lag if each.HasField("lag") else None,
            "oldest_s": each.oldest_s if each.HasField("oldest_s") else None,
        }
        for each in observed.readings
    ]
    return {**_worst(reads), "reads": reads}


def together(copies: Sequence[Row]) -> Row:
    """The same of several copies: what each of them has yet to do, queue by queue."""
    queues = dict.fromkeys(read["queue"] for copy in copies for read in copy["reads"])
    reads = [
        {"queue": queue, **_worst(read for copy in copies for read in copy["reads"] if read["queue"] == queue)}
        for queue in queues
    ]
    return {**_worst(copies), "reads": reads}


def columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Column -> its cell in each row; only those that say something, for the table is wide."""
    cells = {
        "LAG": ["-" if row["lag"] is None else str(row["lag"]) for row in rows],
        "OLDEST": ["-" if row["oldest_s"] is None else f"{row['oldest_s']:.1f} s" for row in rows],
    }
    return {column: found for column, found in cells.items() if set(found) - {"-"}}


def _worst(each: Iterable[Row]) -> Row:
    known = list(each)
    lags = [one["lag"] for one in known if one["lag"] is not None]
    ages_s = [one["oldest_s"] for one in known if one["oldest_s"] is not None]
    return {"lag": sum(lags) if lags else None, "oldest_s": max(ages_s, default=None)}
