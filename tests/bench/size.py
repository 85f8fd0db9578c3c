"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Numbers of records, rounds, agents and seconds."""

    rounds: int
    """Runs of ours and theirs that take turns."""
    records: int
    """Of a fast program, one run."""
    slow_records: int
    """Of one that makes some hundred records a second."""
    kafka_records: int
    """Of a fast program over Kafka, one run."""
    hop_records: int
    """At 100 a second."""
    idle_s: float
    agents: int


FULL = Size(
    rounds=3, records=12_000, slow_records=1600, kafka_records=150_000, hop_records=1000, idle_s=30.0, agents=1000
)
QUICK = Size(rounds=1, records=400, slow_records=60, kafka_records=4000, hop_records=30, idle_s=1.0, agents=20)
