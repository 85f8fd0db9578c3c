"""A last stage that is too slow: looked at while its window is full, then replaced by a fast one."""

from __future__ import annotations

from pathlib import Path

from support.cluster import Cluster, wait_for
from support.results import pipelines
from support.results.ledger import Verdict
from support.results.processes import of_stage
from support.results.trial import WINDOW, Queue, Trial

MOST_BYTES = 256 * 2**20
LOOKS = 200


class SlowStage:
    """a -> b at one broker; b takes `work` for each record until `relieve`. `judge` says what was seen."""

    def __init__(self, folder: Path, cluster: Cluster, port: int, work: str) -> None:
        self.peak_bytes = 0
        self.most_in_flight = 0
        self._folder, self._cluster, self._port = folder, cluster, port
        self._deploy(work)

    def trial(self, records: int, rate: float) -> Trial:
        """The load, with the relief after it."""
        return Trial(
            pipelines.ID,
            "ab",
            Queue("broker", "numbered/1"),
            Queue("broker", "numbered/3"),
            records,
            rate,
            pipelines.payload,
            pipelines.through("ab"),
            after_load=self.relieve,
            changing=True,
            settle_s=120.0,
        )

    def relieve(self) -> None:
        """The load is over and b has hardly begun."""
        slow = of_stage(self._cluster.folder, "b")
        assert slow is not None
        wait_for("a full window", lambda: slow.counter("in_flight") == WINDOW)
        self.most_in_flight = max(slow.counter("in_flight") or 0 for _ in range(LOOKS))
        self.peak_bytes = slow.peak_bytes()
        self._deploy("pass")

    def broken(self, verdict: Verdict) -> list[str]:
        """Promises of a slow stage that were not kept, one sentence each."""
        found = []
        if verdict.duplicates:
            found.append(f"{verdict.duplicates} records came twice although it was drained")
        if self.most_in_flight > WINDOW:
            found.append(f"{self.most_in_flight} records in flight, at most {WINDOW} may be")
        if self.peak_bytes > MOST_BYTES:
            found.append(f"its memory was {self.peak_bytes / 2**20:.0f} MiB, at most {MOST_BYTES / 2**20:.0f} may be")
        return found

    def _deploy(self, work: str) -> None:
        document = pipelines.chain(self._folder, [self._port] * 3, works={"a": "pass", "b": work})
        self._cluster.coord("submit", str(document))
