"""What goes wrong, and when: drawn from a seed, so that a run that found something can be run again."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SEED_VARIABLE = "FOGLINE_SEED"


class Kind(StrEnum):
    """The faults there are."""

    KILL_STAGE = "kill-stage"
    """SIGKILL to the process that runs a stage."""
    KILL_AGENT = "kill-agent"
    """SIGKILL to an agent, which is started again at once."""
    STOP_BROKER = "stop-broker"
    """SIGTERM to a broker, which is started again when `for_s` is over."""
    CUT_LINK = "cut-link"
    """The network of the node that runs a stage goes away, and comes back when `for_s` is over."""
    KILL_COORDINATOR = "kill-coordinator"
    """SIGKILL to the coordinator, which is started again when `for_s` is over."""


@dataclass(frozen=True, order=True)
class Fault:
    """One fault, `at_s` seconds after the load began."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0

    def __str__(self) -> str:
        away = f", away for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:6.2f} s  {self.kind} {self.target}{away}"


@dataclass(frozen=True)
class Wish:
    """How often what shall be hit between `from_s` and `to_s`."""

    from_s: float
    to_s: float
    stage_kills: Mapping[str, int] = field(default_factory=dict)
    """Stage -> kills."""
    agents: tuple[str, ...] = ()
    agent_kills: int = 0
    """In all; which agent it is each time is left to chance."""
    broker_stops: Mapping[str, int] = field(default_factory=dict)
    broker_away_s: float = 0.0
    coordinator_away: tuple[float, float] | None = None
    """From which second to which; not left to chance."""
    kills_apart_s: float = 0.0
    """Between two kills of stages at least. Over an acknowledged link only a writer that lives knows what comes again:
    kill it with its reader, and nobody can tell that the reader was busy."""
    cuts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Stage -> from which second to which the network of its node is cut; not left to chance."""


def seed() -> int:
    """The seed of this run: the one in FOGLINE_SEED, else a fresh one. It is printed."""
    given = os.environ.get(SEED_VARIABLE)
    chosen = int(given) if given else random.SystemRandom().randrange(2**32)
    print(f"{SEED_VARIABLE}={chosen} repeats the faults of this run")
    return chosen


def schedule(chosen: int, wish: Wish) -> list[Fault]:
    """The faults in order of time: the same for the same seed and wish."""
    chance = random.Random(chosen)

    def when() -> float:
        return round(chance.uniform(wish.from_s, wish.to_s), 3)

    killed = [stage for stage, kills in wish.stage_kills.items() for _ in range(kills)]
    times = _apart([when() for _ in killed], wish)
    faults = [Fault(at_s, Kind.KILL_STAGE, stage) for at_s, stage in zip(times, killed, strict=True)]
    faults += [Fault(when(), Kind.KILL_AGENT, chance.choice(wish.agents)) for _ in range(wish.agent_kills)]
    faults += [
        Fault(when(), Kind.STOP_BROKER, broker, wish.broker_away_s)
        for broker, stops in wish.broker_stops.items()
        for _ in range(stops)
    ]
    if wish.coordinator_away is not None:
        from_s, to_s = wish.coordinator_away
        faults.append(Fault(from_s, Kind.KILL_COORDINATOR, "coordinator", to_s - from_s))
    faults += [Fault(from_s, Kind.CUT_LINK, stage, to_s - from_s) for stage, (from_s, to_s) in wish.cuts.items()]
    return sorted(faults)


def _apart(times: Sequence[float], wish: Wish) -> list[float]:
    """The same order within the same limits, drawn apart."""
    span_s = wish.to_s - wish.from_s
    factor = 1 - wish.kills_apart_s * (len(times) - 1) / span_s if times else 1.0
    ranks = {at_s: rank for rank, at_s in enumerate(sorted(times))}
    return [round(wish.from_s + (at_s - wish.from_s) * factor + ranks[at_s] * wish.kills_apart_s, 3) for at_s in times]
