"""The Kafka stage: JSON, model, JSON, at least once and exactly once, over a real Apache Kafka of one node.

The topic is filled beforehand, as it is after an outage. Each program has a new output topic and a group of its
own; the set of numbers that arrived is compared with what was sent after every run.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.kafka_load import Records, Topic, arrivals, compare, fill, make_topic, rate_of
from bench.kafka_programs import PARTITIONS, Alive, Stage, peer, shared_rate
from bench.models import write
from bench.peers_env import NotInstalled, python_of
from bench.rows import Row, compared, not_compared
from bench.size import Size
from support.kafka import Kafka

DIFFERENT = 5000
"""Records with different features; beyond that they differ in what stands beside them."""

Program = Callable[[Topic, Path], AbstractContextManager[Alive]]
"""Runs while the context is open, in a folder, and writes what it makes to this topic."""


@dataclass(frozen=True)
class Peer:
    """A program that Fogline is measured against."""

    label: str
    environment: str
    module: str
    budget: str
    slower: int
    """It gets a part of the topic that is so many times smaller."""


PEERS = (
    Peer("kafka-python: one record, get(), commit()", "kafka-python", "kafka_python_tutorial", ">= 200x", 250),
    Peer("kafka-python, batches of 500", "kafka-python", "kafka_python_batches", ">= 6x", 8),
    Peer("bytewax, flat_map_batch of 1000", "bytewax", "bytewax_batches", ">= 1.2x", 1),
    Peer("quixstreams as shipped", "quixstreams", "quixstreams_as_shipped", ">= 10x", 10),
    Peer("confluent-kafka by hand, batches of 5000", "confluent", "confluent_batches", ">= 0.7x", 1),
)
WHAT = "Kafka stage, scikit-learn"


class Course:
    """One broker, one filled topic, and what was measured on it: label -> a rate for each turn."""

    def __init__(self, folder: Path, server: Kafka, records: Records, model: Path) -> None:
        self.rates: dict[str, list[float]] = {}
        self.missing: dict[str, str] = {}
        """Peers that could not be measured, with the reason."""
        self.records, self.server = records, server
        self.stage = Stage(server, model)
        self.source = make_topic(server.server)
        self._folder, self._model = folder, model
        fill(self.source, records.payloads())

    def run(self, label: str, program: Program, count: int) -> None:
        """Note the records a second of one program, over the first `count` of the topic."""
        sink = make_topic(self.server.server)
        folder = self._folder / f"{label.partition(',')[0]}-{sink.name}"
        folder.mkdir(parents=True)
        with program(sink, folder) as alive:
            found = arrivals(sink, count, alive)
        compare(found, self.records, count)
        self.rates.setdefault(label, []).append(rate_of(found, count))

    def run_peer(self, each: Peer) -> None:
        """The same for a peer, unless it is known to be missing; one that breaks is missing from then on."""
        if each.label in self.missing:
            return
        try:
            program = peer(python_of(each.environment), each.module, self.source, self._model)
            self.run(each.label, program, self.records.count // each.slower)
        except NotInstalled as error:
            self.missing[each.label] = f"not installed: {error}"
        except Exception as error:  # noqa: BLE001 - it is shown in its row, and the others are measured
            traceback.print_exc()
            self.missing[each.label] = str(error).partition("\n")[0]


def rows(folder: Path, size: Size) -> list[Row]:
    """Ours against every peer, exactly once against at least once, and two processes against one."""
    models = write(folder, min(DIFFERENT, size.kafka_records))
    records = Records(models, size.kafka_records)
    with Kafka(folder / "kafka") as server:
        course = Course(folder, server, records, models.sklearn)
        shared = []
        for turn in range(size.rounds):
            course.run("ours", course.stage.reading(course.source), records.count)
            course.run("exact", course.stage.reading(course.source, exactly_once=True), records.count)
            for each in PEERS:
                course.run_peer(each)
            rates = [shared_rate(folder / f"{turn}-{n}", course.stage, records, processes=n) for n in (2, 1)]
            shared.append((rates[0], rates[1]))
    pairs = list(zip(course.rates["exact"], course.rates["ours"], strict=True))
    return [
        *(_row(each, course) for each in PEERS),
        compared(f"{WHAT}, exactly once", "records/s", "at least once", pairs, ">= 0.7x"),
        compared(f"{WHAT}, {PARTITIONS} partitions, two processes", "records/s", "one process", shared),
    ]


def _row(each: Peer, course: Course) -> Row:
    ours = course.rates["ours"]
    if reason := course.missing.get(each.label):
        return not_compared(WHAT, median(ours), "records/s", f"{each.label}: {reason}", each.budget)
    return compared(WHAT, "records/s", each.label, list(zip(ours, course.rates[each.label], strict=True)), each.budget)
