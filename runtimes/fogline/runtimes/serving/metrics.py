"""What the process counts, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Mapping, Sequence

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TYPE = b"text/plain; version=0.0.4; charset=utf-8"


INFERENCES = frozenset({"predict", "infer", "forward"})
"""The routes that ask the stages for something."""
REFUSED = 400


class Requests:
    """Counted by the loop's thread, by the names of routes, never by what callers wrote."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request, from its arrival to its answer."""
        self._answered[route, status] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(BUCKETS_S) + 1)
        buckets[bisect.bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]

    def asked(self) -> dict[str, int]:
        """For `status`: the requests to the stages that were answered, and those of them that got an error. Safe from
        any thread."""
        answered = [(status, count) for (route, status), count in self._answered.copy().items() if route in INFERENCES]
        errors = sum(count for status, count in answered if status >= REFUSED)
        return {"requests": sum(count for _, count in answered), "errors": errors}

    def lines(self) -> list[str]:
        """Of both families."""
        name = "fogline_requests_total"
        lines = _head(name, "counter", "Requests by route and status.")
        lines += [
            f'{name}{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in sorted(self._answered.items())
        ]
        name = "fogline_request_duration_seconds"
        lines += _head(name, "histogram", "From a request's arrival to its answer.")
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for limit, count in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
                total += count
                lines.append(f'{name}_bucket{{route="{route}",le="{limit}"}} {total}')
            lines.append(f'{name}_sum{{route="{route}"}} {self._seconds[route]:.6f}')
            lines.append(f'{name}_count{{route="{route}"}} {total}')
        return lines


def single(name: str, kind: str, help_: str, value: float) -> list[str]:
    """A family of one."""
    return [*_head(name, kind, help_), f"{name} {value}"]


def stages(counters: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Records per stage, by what became of them."""
    name = "fogline_stage_records_total"
    lines = _head(name, "counter", "Records by stage and outcome: failed is what the caller got as an error.")
    outcomes = {"done": "done", "filtered": "filtered", "dropped": "failed"}
    return lines + [
        f'{name}{{stage="{stage}",outcome="{word}"}} {row[key]}'
        for stage, row in counters.items()
        for key, word in outcomes.items()
    ]


def text(*families: Sequence[str]) -> bytes:
    """The whole page."""
    return "".join(f"{line}\n" for family in families for line in family).encode()


def _head(name: str, kind: str, help_: str) -> list[str]:
    return [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
