"""Whether a process hangs: fed with what every look at it brought, asked for a verdict. Pure.

::

    loading --longer than startup_s--> hangs
    loaded  --no progress inside a stage, or no answer at all, for more than live_s--> hangs

Loading is never held against `live_s`, nor is a broker that is away: the process counts only the time inside
user code. Silence counts as far as an answer was waited for: an agent that was stopped itself has waited
for nothing. Of a process that was found running and has not answered since, nobody knows whether it is
loaded: it hangs when both deadlines are over.
"""

from __future__ import annotations

from fogline.runtimes.spec import HealthSpec


class Vigil:
    """One process under its deadlines. All times in seconds, on one clock."""

    def __init__(self, health: HealthSpec, who: str, started_at_s: float, *, found: bool = False) -> None:
        """`who` stands in the verdict; `found`: started by an earlier agent."""
        self._health = health
        self._who = who
        self._started_at_s = started_at_s
        self._loaded: bool | None = None if found else False
        self.mute_s = 0.0
        """For how long it was asked in vain."""
        self._stalled_s = 0.0
        self._stalled = ""

    def answered(self, *, loaded: bool, stalled_s: float = 0.0, stage: str = "") -> None:
        """It said that it is loaded or not, and for how long there was no progress, and in which stage."""
        self._loaded = loaded
        self.mute_s = 0.0
        self._stalled_s = stalled_s
        self._stalled = f"stage {stage}" if stage else self._who

    def unanswered(self, waited_s: float) -> None:
        """For so long again it was asked in vain."""
        self.mute_s += waited_s

    def verdict(self, now_s: float) -> str:
        """Why it must be ended; empty while all is well."""
        startup_s, live_s = self._health.startup_s, self._health.live_s
        late = now_s - self._started_at_s > startup_s
        if self._loaded is False:
            return f"{self._who}: not loaded within {startup_s:g} s (health.startup)" if late else ""
        if self._loaded and self._stalled_s > live_s:
            return f"{self._stalled}: no progress for {live_s:g} s (health.live)"
        if self.mute_s > live_s and (self._loaded or late):
            return f"{self._who}: no progress for {live_s:g} s (health.live): its control socket does not answer"
        return ""
