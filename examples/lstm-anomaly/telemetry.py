"""Made-up telemetry of a machine: a daily rhythm with noise and, on wish, some hours that are not as usual.

python telemetry.py 600 --seed 2 --odd > records.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator
from typing import Any

DAY = 288
"""Measurements a day: one each five minutes."""
ODD_EVERY, ODD_FOR = 150, 12
"""Measurements from one odd stretch to the next, and how many it lasts."""


def records(count: int, seed: int, *, odd: bool) -> Iterator[dict[str, Any]]:
    """`count` measurements {"timestamp", "cpu", "network", "disk"}, the same for the same seed."""
    chance = random.Random(seed)
    for number in range(count):
        rhythm = 0.5 + 0.4 * math.sin(2 * math.pi * number / DAY)
        busy = odd and number % ODD_EVERY >= ODD_EVERY - ODD_FOR
        yield {
            "timestamp": number * 300,
            "cpu": round(100 * min(1.0, rhythm * (0.2 if busy else 1.0) + chance.gauss(0, 0.03)), 3),
            "network": round(5e6 * max(0.0, rhythm + chance.gauss(0, 0.03))),
            "disk": round(2e7 * max(0.0, (1.0 if busy else 0.3 * rhythm) + chance.gauss(0, 0.03))),
        }


def main() -> None:
    """Print them, one a line."""
    parser = argparse.ArgumentParser(description="Made-up telemetry, a JSON object a line.")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--odd", action="store_true", help="with stretches that are not as usual")
    given = parser.parse_args()
    for record in records(given.count, given.seed, odd=given.odd):
        print(json.dumps(record))


if __name__ == "__main__":
    main()
