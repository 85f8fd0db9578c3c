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
    kafka_records: int
    """Of a fast program over Kafka, one run."""
    hop_records: int
    """At 100 a second."""
    idle_s: float
    agents: int
    rest_pairs: int
    """Of ours and a peer's that take turns."""
    rest_s: float
    crowd: int
    """Connections beside those that are measured."""


FULL = Size(
    rounds=3,
    records=40_000,
    kafka_records=150_000,
    hop_records=1000,
    idle_s=30.0,
    agents=1000,
    rest_pairs=5,
    rest_s=2.0,
    crowd=1000,
)
QUICK = Size(
    rounds=1,
    records=1200,
    kafka_records=4000,
    hop_records=30,
    idle_s=1.0,
    agents=20,
    rest_pairs=1,
    rest_s=1.0,
    crowd=60,
)
