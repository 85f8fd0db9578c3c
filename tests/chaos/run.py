"""`make chaos`: the long form of the end-to-end tests, one table at the end. Exit code 1 when a run does not hold.

Each seed draws other faults; FOGLINE_SEED repeats those of one run. `--only NAME` runs one of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cluster import Cluster, cluster
from support.kafka import Kafka
from support.link import Link
from support.mosquitto import QUIET, Mosquitto
from support.results import letters, pipelines, severed
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
MIXED = Wish(from_s=2.0, to_s=40.0, stage_kills={"b": 20}, broker_stops={"broker": 1, "kafka": 1}, broker_away_s=0.5)
EXACT = Wish(from_s=2.0, to_s=48.0, stage_kills={"a": 20})
CUT = Wish(from_s=2.0, to_s=48.0, cuts={severed.STAGE: (10.0, 40.0)})


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


@dataclass(frozen=True)
class Scene:
    """What a run is carried out in."""

    folder: Path
    fleet: Cluster
    brokers: Mapping[str, Mosquitto | Kafka]
    seed: int
    link: Link | None = None
    """The network of one node, where that can be cut."""

    @property
    def port(self) -> int:
        """Of the MQTT broker."""
        return self.brokers["broker"].port


def kills(scene: Scene) -> tuple[Verdict, str]:
    """100 000 records at 2 000/s through three stages joined by queues; everything is killed meanwhile."""
    return _through(scene, pipelines.three_stages(scene.folder, scene.port), KILLS)


def linked(scene: Scene) -> tuple[Verdict, str]:
    """The same through automatic queues."""
    return _through(scene, pipelines.three_linked(scene.folder, scene.port), KILLS)


def websocket(scene: Scene) -> tuple[Verdict, str]:
    """The same through acknowledged links."""
    return _through(scene, pipelines.three_by_websocket(scene.folder, scene.port), KILLS)


def mixed(scene: Scene) -> tuple[Verdict, str]:
    """The same over two queues of MQTT and two of Kafka; the stage between them is killed, both brokers go down."""
    document = pipelines.mixed(scene.folder, scene.port, scene.brokers["kafka"].port)
    return _through(scene, document, MIXED, leaves=Queue("kafka", "numbered.4"))


def exact(scene: Scene) -> tuple[Verdict, str]:
    """The same through one stage from Kafka to Kafka exactly once, which is killed: nothing comes twice."""
    document = pipelines.exact(scene.folder, scene.brokers["kafka"].port)
    ends = {"enters": Queue("kafka", "numbered.1"), "leaves": Queue("kafka", "numbered.2")}
    verdict, more = _through(scene, document, EXACT, stages="a", telling=False, **ends)
    assert verdict.duplicates == 0, f"{verdict.duplicates} records came twice; {verdict}"
    return verdict, more


def cut(scene: Scene) -> tuple[Verdict, str]:
    """The same as `mixed`, but that the network of the middle stage's node is cut for half a minute."""
    assert scene.link is not None
    document = severed.mixed(scene.folder, dict(scene.brokers), scene.link.here)
    return _through(scene, document, CUT, leaves=Queue("kafka", "numbered.4"), links={severed.STAGE: scene.link})


def _through(scene: Scene, document: Path, wish: Wish, **other: Any) -> tuple[Verdict, str]:
    """Deploy, and run the long trial with the faults of this wish; `other` differs from three stages over MQTT."""
    scene.fleet.coord("submit", str(document))
    stages = other.get("stages", pipelines.STAGES)
    usual = {"stages": stages, "enters": ENTERS, "leaves": Queue("broker", "numbered/4")}
    trial = Trial(
        pipelines.ID,
        records=100_000,
        rate=2_000.0,
        make=pipelines.payload,
        expect=pipelines.through(stages),
        faults=schedule(scene.seed, wish),
        settle_s=400.0,
        **usual | other,
    )
    verdict = trial.run(scene.fleet, scene.brokers)
    worst = max((outcome.took_s for outcome in verdict.history.faults), default=0.0)
    return verdict, f"{len(verdict.history.faults)} faults, slowest back after {worst:.1f} s"


def malformed(scene: Scene) -> tuple[Verdict, str]:
    """10 000 malformed records among 10 000 good ones."""
    fleet, folder = scene.fleet, scene.folder
    fleet.coord("submit", str(pipelines.one_stage(folder, (scene.port, scene.port))))
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
    verdict = trial.run(fleet, scene.brokers)
    assert of_stage(fleet.folder, "a") == before, "it did not go on in the same process"
    more_bytes = before.peak_bytes() - peak_bytes
    assert more_bytes <= MORE_BYTES, f"memory grew by {more_bytes / 2**20:.0f} MiB"
    return verdict, f"same process, memory + {more_bytes / 2**20:.1f} MiB"


def deadly(scene: Scene) -> tuple[Verdict, str]:
    """One record in a thousand kills the process."""
    fleet, folder = scene.fleet, scene.folder
    fleet.coord("submit", str(pipelines.one_stage(folder, (scene.port, scene.port), work=pipelines.DEADLY)))
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
    verdict = trial.run(fleet, scene.brokers)
    return verdict, f"{fleet.stage(pipelines.ID, 'a')['restarts']} restarts"


def slow(scene: Scene) -> tuple[Verdict, str]:
    """The last stage does a tenth of the rate."""
    stage = SlowStage(scene.folder, scene.fleet, scene.port, "time.sleep(0.005)")
    verdict = stage.trial(records=40_000, rate=2_000.0).run(scene.fleet, scene.brokers)
    assert not (broken := stage.broken(verdict)), "; ".join(broken)
    return verdict, f"at most {stage.most_in_flight} in flight, {stage.peak_bytes / 2**20:.1f} MiB"


Run = Callable[[Scene], tuple[Verdict, str]]
RUNS: dict[str, tuple[Run, tuple[str, ...]]] = {
    "kills": (kills, pipelines.NODES),
    "linked": (linked, pipelines.NODES),
    "websocket": (websocket, pipelines.NODES),
    "malformed": (malformed, ("edge_node",)),
    "deadly": (deadly, ("edge_node",)),
    "slow": (slow, ("edge_node",)),
    "mixed": (mixed, pipelines.NODES),
    "exact": (exact, ("edge_node",)),
    "cut": (cut, pipelines.NODES),
}
WITH_KAFKA = {"mixed", "exact"}


@contextmanager
def _scene(name: str, folder: Path, nodes: tuple[str, ...], chosen: int) -> Iterator[Scene]:
    """The brokers and nodes of a run. Without what a cut needs the run fails, and says what that is."""
    if name == "cut":
        with severed.node(folder, *nodes) as (link, reached, fleet):
            yield Scene(folder, fleet, reached, chosen, link)
        return
    with ExitStack() as stack:
        brokers: severed.Brokers = {"broker": stack.enter_context(Mosquitto(folder / "broker", extra=QUIET))}
        if name in WITH_KAFKA:
            brokers["kafka"] = stack.enter_context(Kafka(folder / "kafka"))
        fleet = stack.enter_context(cluster(folder / "cluster", *nodes))
        yield Scene(folder, fleet, brokers, chosen)


def carry_out(name: str, chosen: int) -> Row:
    """One run in a folder of its own, which stays when the run does not hold."""
    run, nodes = RUNS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fogline-chaos-{name}-"))
    began = time.monotonic()
    try:
        with _scene(name, folder, nodes, chosen) as scene:
            verdict, more = run(scene)
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
