"""Moments: what people type for `--since`, and how a moment is shown."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from fogline.wire.terms import ErrorKind, FoglineError

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

SinceOption = Annotated[
    str,
    typer.Option(
        "--since", metavar="AGO|TIME", help="Begin there: 90s, 10m, 2h, 1d, or 2026-01-31T12:00 (here; ...Z: UTC)."
    ),
]


def since(given: str) -> float:
    """Seconds since the epoch; 0 for nothing given. Raises FoglineError for what is no moment."""
    if not given:
        return 0.0
    if ago := _AGO.fullmatch(given):
        return time.time() - float(ago[1]) * _UNIT_S[ago[2]]
    try:
        return datetime.fromisoformat(given).timestamp()  # without a zone: this machine's
    except ValueError:
        sentence = f"--since {given}: neither a time span such as 10m or 2h nor a time such as 2026-01-31T12:00"
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence) from None


def shown(at: float) -> str:
    """For people, in this machine's time zone: `2026-01-31 12:00:00`."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def iso(at: float) -> str:
    """For tools, in UTC: `2026-01-31T12:00:00.123Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
