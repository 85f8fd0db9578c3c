"""The live table of a deployment."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live

from fogline.coordinator.cli.client import CALL_S
from fogline.coordinator.cli.following import stage_rows
from fogline.coordinator.cli.output import table
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc

PERIOD_S = 0.5
PRINT_S = 3.0
"""Where stdout is no terminal the table is printed anew this often."""
COLUMNS = ["STAGE", "NODE", "STATE", "IN", "OUT", "RATE/S", "P50 MS", "P99 MS"]


class LiveTable:
    """Asks for a fresh status twice a second and shows it."""

    def __init__(self, stub: operator_grpc.OperatorCoordinatorStub, id_: str) -> None:
        self._stub = stub
        self._id = id_
        self._before: dict[str, tuple[float, int]] = {}
        self.rows: list[dict[str, Any]] = []

    def show_until(self, done: Callable[[], object], seconds: float) -> None:
        """Show the table until `done()` or so many seconds passed."""
        deadline = time.monotonic() + seconds
        console = Console()
        if not sys.stdout.isatty():
            self._print_until(done, deadline, console)
            return
        with Live(console=console, auto_refresh=False) as live:
            while not done() and time.monotonic() < deadline:
                live.update(table(COLUMNS, self._cells()), refresh=True)
                time.sleep(PERIOD_S)

    def _print_until(self, done: Callable[[], object], deadline: float, console: Console) -> None:
        printed_at = 0.0
        while not done() and time.monotonic() < deadline:
            cells = self._cells()
            if time.monotonic() - printed_at >= PRINT_S:
                printed_at = time.monotonic()
                console.print(table(COLUMNS, cells))
            time.sleep(PERIOD_S)

    def _cells(self) -> list[list[object]]:
        found = self._stub.Status(operator.StatusRequest(id=self._id, fresh=True), timeout=CALL_S)
        self.rows = stage_rows(found)
        now = time.monotonic()
        cells: list[list[object]] = []
        for row in self.rows:
            at, count = self._before.get(row["name"], (now, row["in"]))
            rate = (row["in"] - count) / (now - at) if now > at else 0.0
            self._before[row["name"]] = (now, row["in"])
            latency_ms = [round(row[key] * 1e3, 1) for key in ("p50_s", "p99_s")]
            numbers = [row["in"], row["out"], round(rate, 1), *latency_ms]
            cells.append([row["name"], row["node"], row["state"], *numbers])
        return cells
