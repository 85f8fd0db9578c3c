"""The segment's own log lines: time, level, message, on stderr beside what user code prints."""

from __future__ import annotations

import io
import logging
import sys
import time

log = logging.getLogger("fogline")


def set_up() -> None:
    """One line per entry, UTC: `2026-01-31T12:00:00.123Z INFO ready`. What user code prints joins it line
    by line, also into a file: a log that lags shows nothing of the last moments."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
