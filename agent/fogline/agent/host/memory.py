"""Keeps the agent light: what starting up or a large fetch needed goes back to the machine."""

from __future__ import annotations

import asyncio
import ctypes

SETTLED_S = 3.0
"""After the start: by then the node is connected and most of what was needed for it is garbage."""
AGAIN_S = 600.0


async def keep_light() -> None:
    """Give free memory back now and then, until cancelled. Does nothing where the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps it otherwise
    delay_s = SETTLED_S
    while trim is not None:
        await asyncio.sleep(delay_s)
        trim(0)
        delay_s = AGAIN_S
