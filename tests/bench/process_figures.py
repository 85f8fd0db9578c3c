"""What a process uses, from /proc."""

from __future__ import annotations

from pathlib import Path

import psutil

MB = 2**20
"""As ps and /proc count."""


def resident_bytes(pid: int, kind: str = "Rss") -> int:
    """`Rss`: all that lies in memory; `Pss`: what is shared counts in proportion."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} tells no {kind}")


def family_bytes(pid: int) -> int:
    """Of the process and all that it has started; what several share counts once (Pss)."""
    family = [pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))]
    return sum(resident_bytes(each, "Pss") for each in family)


def processor_s(pid: int) -> float:
    """Processor time of all its threads so far, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
