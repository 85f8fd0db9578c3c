"""Restart policy: fed how a process ended, asked whether and when to start it again. Pure.

The first restart comes after 0.2 s. The wait doubles with every further start that acknowledged no
input, so that a segment that cannot work does not eat its node, and falls back to 0.2 s with the first
input that is acknowledged or the first minute survived.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from fogline.runtimes.spec import FINAL_EXITS, Exit

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
SURVIVED_S = 60.0


@dataclass(frozen=True)
class Ending:
    """How a process ended that nobody asked to stop. Both None: nobody saw it end."""

    code: int | None = None
    signal: int | None = None
    reason: str = ""
    """Its last words, from the failure file; empty when it left none."""
    out_of_memory: bool = False
    """The kernel ended it for lack of memory."""
    memory_limit_bytes: int = 0
    """What it was allowed; 0: whatever the machine has."""
    finished: bool = False
    """At the end of its input, all of which is acknowledged."""

    def sentence(self) -> str:
        """The last words, or what can be said without them."""
        if self.reason:
            return self.reason
        if self.signal is not None:
            limit = f", its limit is {self.memory_limit_bytes / 2**20:.4g} MiB" if self.memory_limit_bytes else ""
            why = f": out of memory{limit}" if self.out_of_memory else ""
            return f"killed by {_signal_name(self.signal)}{why}"
        if self.code is not None:
            return f"ended with exit code {self.code}"
        return "ended unseen: its node or its shim went down"


@dataclass(frozen=True)
class Verdict:
    """Start again `delay_s` from now, or (None) never; `reason` says why it ended."""

    delay_s: float | None
    reason: str
    finished: bool = False
    """Never, because there is nothing left to do."""


def after_exit(policy: str, ending: Ending, fruitless_starts: int) -> Verdict:
    """What follows on `ending` under the spec's `restart` policy: `always`, `on-failure` or `no`.

    None of them starts again what has come to the end of its input.

    `fruitless_starts` counts the starts before this one, in a row, that led to nothing.
    """
    if ending.finished:
        return Verdict(None, ending.sentence(), finished=True)
    if ending.code in FINAL_EXITS and ending.code != Exit.DONE:
        return Verdict(None, ending.sentence())
    if policy == "no" or (policy == "on-failure" and ending.code == Exit.DONE):
        return Verdict(None, f"{ending.sentence()}; its restart policy is `{policy}`")
    return Verdict(next_delay_s(fruitless_starts), ending.sentence())


def next_delay_s(fruitless_starts: int) -> float:
    """How long to wait before the next start."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(fruitless_starts, 16))


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
