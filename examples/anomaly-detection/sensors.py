"""Measures this machine: processor in per cent, network and disk reads in bytes per second.

python sensors.py --seconds 15 --rate 5 > record.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import psutil


def samples(rate_hz: float, seconds: float | None = None) -> Iterator[dict[str, Any]]:
    """Yield one measurement every 1/`rate_hz` seconds, for `seconds` or without end.

    Each covers the time since the one before it: {"timestamp", "cpu", "disk", "network"}.
    """
    period_s = 1 / rate_hz
    started_at = before_at = time.monotonic()
    psutil.cpu_percent()
    before = _totals_bytes()
    for tick in count(1) if seconds is None else range(1, round(seconds * rate_hz) + 1):
        time.sleep(max(0.0, started_at + tick * period_s - time.monotonic()))
        now_at, now, cpu = time.monotonic(), _totals_bytes(), psutil.cpu_percent()
        elapsed_s = max(now_at - before_at, 1e-3)
        rates = {name: round((now[name] - before[name]) / elapsed_s, 1) for name in now}
        yield {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "cpu": cpu, **rates}
        before_at, before = now_at, now


def _totals_bytes() -> dict[str, int]:
    """Bytes since boot. A machine without disk or network counters (some containers) counts none."""
    disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
    return {
        "disk": disk.read_bytes if disk else 0,
        "network": network.bytes_sent + network.bytes_recv if network else 0,
    }


def main() -> None:
    """Print measurements as JSON lines."""
    parser = argparse.ArgumentParser(description="Measure this machine; prints JSON lines.")
    parser.add_argument("--seconds", type=float, help="how long (default: until interrupted)")
    parser.add_argument("--rate", type=float, default=5.0, help="measurements per second (default: 5)")
    arguments = parser.parse_args()
    for sample in samples(arguments.rate, arguments.seconds):
        print(json.dumps(sample), flush=True)


if __name__ == "__main__":
    main()
