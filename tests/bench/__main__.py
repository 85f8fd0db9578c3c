"""`make bench`: measures what the budgets speak of, prints one table, writes `build/bench.json`.

A budget that does not hold is marked and changes nothing else: figures are no tests. Only a row that could
not be measured makes the exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from bench import fleet, hop, kafka, memory, mqtt, ready, rest
from bench.rows import Row, as_json, table, unmeasured
from bench.size import FULL, QUICK, Size

GROUPS: dict[str, Callable[[Path, Size], list[Row]]] = {
    "mqtt": mqtt.rows,
    "kafka": kafka.rows,
    "hop": hop.rows,
    "agent": memory.agent_rows,
    "segment": memory.segment_rows,
    "ready": ready.rows,
    "rest": rest.rows,
    "fleet": fleet.rows,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen groups one after the other; 1 when one of them could not be measured."""
    given = _parser().parse_args(arguments)
    chosen = [name for name in given.rows.split(",") if name] or list(GROUPS)
    unknown = sorted(set(chosen) - set(GROUPS))
    if unknown:
        print(f"bench: there is no row group {unknown[0]!r}; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    rows = [row for name in chosen for row in _measure(name, QUICK if given.quick else FULL)]
    print(table(rows), end="")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(as_json(rows))
    return int(any(row.ours is None for row in rows))


def _measure(name: str, size: Size) -> list[Row]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fogline-bench-") as folder:
        try:
            rows = GROUPS[name](Path(folder), size)
        except Exception:  # noqa: BLE001 - whatever it was, the other rows are measured and this one is told of
            traceback.print_exc()
            rows = [unmeasured(name)]
    print(f"bench: {name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", default="", help=f"groups to measure, by commas: {', '.join(GROUPS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: shows that it works, the figures mean nothing"
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="where the figures go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
