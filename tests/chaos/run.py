"""`make chaos`: the long form of the end-to-end tests, one table at the end. Exit code 1 when a run does not hold.

Each seed draws other faults; FOGLINE_SEED repeats those of one run. `--only NAME` runs one of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.cluster import Cluster, cluster
from support.mosquitto import QUIET, Mosquitto
from support.results import letters, pipelines
from support.results.faults import SEED_VARIABLE, Wish, schedule, seed
from support.results.ledger import Verdict
from support.results.processes import of_stage
from support.results.relief import SlowStage
from support.results.trial import Queue, Trial

ENTERS = Queue("broker", "numbered/1")
MORE_BYTES = 50 * 2**20
SHOWN = 200

KILLS = Wish(
    from_s=2.0,
    to_s=48.0,
    stage_kills=dict.fromkeys(pipelines.STAGES, 7),
    agents=pipelines.NODES,
    agent_kills=10,
    broker_stops={"broker": 2},
    broker_away_s=0.5,
    coordinator_away=(10.0, 40.0),
)


@dataclass(frozen=True)
class Row:
    """One run, as the table shows it."""

    name: str
    seed: int
    verdict: Verdict | None
    seconds: float
    more: str = ""
    failure: str = ""

    @property
    def holds(self) -> bool:
        return self.verdict is not None and self.verdict.holds and not self.failure

    def cells(self) -> list[str]:
        """Name, seed, outcome and figures."""
        if self.verdict is None:
            return [self.name, str(self.seed), "FAILED", *["-"] * 7, f"{self.seconds:.0f}", self.failure]
        history = self.verdict.history
        reached = f"{history.load.reached:.0f}" if history.load else "-"
        figures = [
            len(set(history.confirmed)),
            len(history.arrived),
            len(history.letters),
            len(self.verdict.lost),
            len(self.verdict.wrong),
            self.verdict.duplicates,
        ]
        outcome = "holds" if self.holds else "VOID" if self.verdict.void and not self.failure else "FAILED"
        words = "; ".join(filter(None, (self.more, self.failure)))
        return [self.name, str(self.seed), outcome, *map(str, figures), reached, f"{self.seconds:.0f}", words]


HEADS = ["run", "seed", "outcome", "sent", "sink", "letters", "lost", "wrong", "again", "load/s", "s", "remarks"]


def kills(folder: Path, fleet: Cluster, broker: Mosquitto, chosen: int) -> tuple[Verdict, str]:
    """100 000 records at 2 000/s through three stages joined by queues; everything is killed meanwhile."""
    return _killed(pipelines.three_stages(folder, broker.port), fleet, broker, chosen)


def linked(folder: Path, fleet: Cluster, broker: Mosquitto, chosen: int) -> tuple[Verdict, str]:
    """The same through automatic queues."""
    return _killed(pipelines.three_linked(folder, broker.port), fleet, broker, chosen)


def websocket(folder: Path, fleet: Cluster, broker: Mosquitto, chosen: int) -> tuple[Verdict, str]:
    """The same through acknowledged links."""
    return _killed(pipelines.three_by_websocket(folder, broker.port), fleet, broker, chosen)


def _killed(document: Path, fleet: Cluster, broker: Mosquitto, chosen: int) -> tuple[Verdict, str]:
    fleet.coord("submit", str(document))
    trial = Trial(
        pipelines.ID,
        pipelines.STAGES,
        ENTERS,
        Queue("broker", "numbered/4"),
        records=100_000,
        rate=2_000.0,
        make=pipelines.payload,
        expect=pipelines.through(pipelines.STAGES),
        faults=schedule(chosen, KILLS),
        settle_s=400.0,
    )
    verdict = trial.run(fleet, {"broker": broker})
    worst = max((outcome.took_s for outcome in verdict.history.faults), default=0.0)
    return verdict, f"{len(verdict.history.faults)} faults, slowest back after {worst:.1f} s"


def malformed(folder: Path, fleet: Cluster, broker: Mosquitto, chosen: int) -> tuple[Verdict, str]:
    """10 000 malformed records among 10 000 good ones."""
    fleet.coord("submit", str(pipelines.one_stage(folder, (broker.port, broker.port))))
    before = of_stage(fleet.folder, "a")
    assert before is not None
    peak_bytes = before.peak_bytes()
    trial = Trial(
        pipelines.ID,
        "a",
        ENTERS,
        Queue("broker", "numbered/2"),
        records=20_000,
        rate=1_000.0,
        make=pipelines.half_malformed,
        expect=pipelines.half_kept,
        letters=letters.payloads_of_node(fleet, "edge_node", pipelines.ID),
        settle_s=400.0,
    )
    verdict = trial.run(fleet, {"broker": broker})
    assert of_stage(fleet.folder, "a") == before, "it did not go on in the same process"
    more_bytes = before.peak_bytes() - peak_bytes
    assert more_bytes <= MORE_BYTES, f"memory grew by {more_bytes / 2**20:.0f} MiB"
    return verdict, f"same process, memory + {more_bytes / 2**20:.1f} MiB"


def deadly(folder: Path, fleet: Cluster, broker: Mosquitto, chosen: int) -> tuple[Verdict, str]:
    """One record in a thousand kills the process."""
    fleet.coord("submit", str(pipelines.one_stage(folder, (broker.port, broker.port), work=pipelines.DEADLY)))
    trial = Trial(
        pipelines.ID,
        "a",
        ENTERS,
        Queue("broker", "numbered/2"),
        records=20_000,
        rate=1_000.0,
        make=pipelines.payload,
        expect=pipelines.all_but_deadly,
        letters=letters.payloads_of_node(fleet, "edge_node", pipelines.ID),
        changing=True,
        crashes=100,
        settle_s=600.0,
    )
    verdict = trial.run(fleet, {"broker": broker})
    return verdict, f"{fleet.stage(pipelines.ID, 'a')['restarts']} restarts"


def slow(folder: Path, fleet: Cluster, broker: Mosquitto, chosen: int) -> tuple[Verdict, str]:
    """The last stage does a tenth of the rate."""
    stage = SlowStage(folder, fleet, broker.port, "time.sleep(0.005)")
    verdict = stage.trial(records=40_000, rate=2_000.0).run(fleet, {"broker": broker})
    assert not (broken := stage.broken(verdict)), "; ".join(broken)
    return verdict, f"at most {stage.most_in_flight} in flight, {stage.peak_bytes / 2**20:.1f} MiB"


Run = Callable[[Path, Cluster, Mosquitto, int], tuple[Verdict, str]]
RUNS: dict[str, tuple[Run, tuple[str, ...]]] = {
    "kills": (kills, pipelines.NODES),
    "linked": (linked, pipelines.NODES),
    "websocket": (websocket, pipelines.NODES),
    "malformed": (malformed, ("edge_node",)),
    "deadly": (deadly, ("edge_node",)),
    "slow": (slow, ("edge_node",)),
}


def carry_out(name: str, chosen: int) -> Row:
    """One run in a folder of its own, which stays when the run does not hold."""
    run, nodes = RUNS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fogline-chaos-{name}-"))
    began = time.monotonic()
    try:
        with Mosquitto(folder / "broker", extra=QUIET) as broker, cluster(folder / "cluster", *nodes) as fleet:
            verdict, more = run(folder, fleet, broker, chosen)
    except Exception as error:  # noqa: BLE001 - one run that breaks must not hide the others
        return Row(name, chosen, None, time.monotonic() - began, failure=f"{_short(error)}; see {folder}")
    print(verdict, flush=True)
    row = Row(name, chosen, verdict, time.monotonic() - began, more)
    print(f"{name}: {'holds' if row.holds else f'see {folder}'}\n", flush=True)
    if row.holds:
        shutil.rmtree(folder)
    return row


def _short(error: Exception) -> str:
    """Both ends of what may be long: the question, and what was wrong with the answer."""
    words = " ".join(repr(error).split())
    return words if len(words) < 2 * SHOWN else f"{words[:SHOWN]} ... {words[-SHOWN:]}"


def table(rows: list[Row]) -> str:
    """The rows under their heads, in columns."""
    cells = [HEADS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADS))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells)


def main() -> int:
    """Run everything for every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to draw faults from")
    parser.add_argument("--only", choices=RUNS, help="one run alone")
    given = parser.parse_args()
    rows = []
    for _ in range(given.seeds):
        chosen = seed()
        rows += [carry_out(name, chosen) for name in ([given.only] if given.only else RUNS)]
    print(table(rows))
    print(f"repeat a row with {SEED_VARIABLE}=seed make chaos")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
