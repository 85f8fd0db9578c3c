"""One trial: a deployed pipeline, a load, faults meanwhile, and the verdict afterwards.

The load lasts until the faults are over, so that each of them finds something under way. When it is confirmed, a last
record is sent. It comes last everywhere, since no
queue reorders and nothing fails any more: once it is at the sink, what is not there is not on its way.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.cluster import Cluster, wait_for
from support.kafka import Kafka
from support.link import Link
from support.mosquitto import Mosquitto
from support.results.collector import Collector
from support.results.faults import Fault, Kind
from support.results.injector import Injector, Targets
from support.results.kafka_ends import KafkaCollector, KafkaProducer
from support.results.ledger import Expect, History, Kept, Load, Verdict, judge
from support.results.processes import Watch, of_stage
from support.results.producer import CONFIRM_S, Producer

QUIET_S = 2.0
"""Nothing came for so long, after the last record: nothing more comes."""
WINDOW = 512
"""Messages a stage may have unacknowledged: twice `max-size`."""


Broker = Mosquitto | Kafka


@dataclass(frozen=True)
class Queue:
    """A topic at a broker."""

    broker: str
    topic: str


@dataclass(frozen=True)
class Trial:
    """What is run; `run` runs it."""

    id: str
    """Of the deployment."""
    stages: Sequence[str]
    enters: Queue
    leaves: Queue
    records: int
    """At least; the load lasts until the faults are over."""
    rate: float
    make: Callable[[int], bytes]
    expect: Expect
    faults: Sequence[Fault] = ()
    settle_s: float = 60.0
    """How long faults and backlog may take beyond the load's own time."""
    letters: Callable[[], Sequence[bytes]] = lambda: ()
    """Reads the payloads of the dead letters, at the end."""
    insist: bool = True
    """Kills must hit a busy process. A mutant with nothing unacknowledged is never busy."""
    telling: bool = True
    """The sources tell what comes again, which proves that a kill could have lost something."""
    changing: bool = False
    """Its processes may be replaced by others that nobody of the test killed."""
    links: Mapping[str, Link] = field(default_factory=dict)
    """Stage -> the network of its node, where that is to be cut."""
    crashes: int = 0
    """Ends of a process besides the kills: each may repeat a window."""
    after_load: Callable[[], None] = lambda: None
    """Done when the load is confirmed and the faults are over, before the last record is sent."""

    def run(self, cluster: Cluster, brokers: Mapping[str, Broker]) -> Verdict:
        """Load, faults, wait, judge."""
        watch = Watch(cluster.folder, changing=self.changing)
        enters, leaves = brokers[self.enters.broker], brokers[self.leaves.broker]
        targets = Targets(cluster, brokers, watch, self.insist, self.telling, self.links)
        with _collector(leaves, self.leaves.topic) as collector, watch:
            with (
                Injector(targets, self.faults) as injector,
                self._producer(enters, self.make, self.records, self.rate, injector.under_way) as producer,
            ):
                injector.wait(self.records / max(self.rate, 1.0) + self.settle_s)
                producer.wait(self.records / max(self.rate, 1.0) + self.settle_s)
            self.after_load()
            wait_for(
                "every stage works", lambda: all(self._works(cluster, each) for each in self.stages), self.settle_s
            )
            last = next(number for number in itertools.count(len(producer.sent)) if self._kept(number) is not None)
            with self._producer(enters, lambda _: self.make(last), 1, 0.0) as one:
                one.wait(CONFIRM_S)
            self._wait_for_the_rest(collector, last)
            rows = self._rows(cluster)
            history = History(
                sent={*producer.sent, last},
                confirmed={*producer.confirmed, last},
                arrived=list(collector.payloads),
                letters=self.letters(),
                rows=rows,
                load=Load(self.rate, producer.reached) if self.rate else None,
                faults=injector.outcomes,
                alarms=watch.alarms,
                duplicates_limit=self._duplicates_limit(),
            )
        return judge(history, self.expect)

    def _producer(
        self,
        broker: Broker,
        make: Callable[[int], bytes],
        count: int,
        rate: float,
        lasts: Callable[[], bool] = lambda: False,
    ) -> Producer | KafkaProducer:
        if isinstance(broker, Kafka):
            return KafkaProducer(broker.server, self.enters.topic, make, count, rate, lasts)
        return Producer(broker.port, self.enters.topic, make, count, rate, lasts)

    def _all_work(self, cluster: Cluster) -> bool:
        return all(self._works(cluster, stage) for stage in self.stages)

    def _works(self, cluster: Cluster, stage: str) -> bool:
        """Its process is ready, and every broker is there."""
        sight = of_stage(cluster.folder, stage)
        status = sight.status() if sight is not None else None
        connected = status is not None and all(each["connected"] for each in status["connections"])
        return status is not None and status["state"] == "ready" and connected

    def _wait_for_the_rest(self, collector: Collector, last: int) -> None:
        """Until all came that must, or the last record came and then nothing for a while."""
        wanted = sum(self._kept(number) is not None for number in range(last + 1))
        ending = self._kept(last) or b""
        count, since = -1, time.monotonic()

        def over() -> bool:
            nonlocal count, since
            if len(collector.payloads) != count:
                count, since = len(collector.payloads), time.monotonic()
            return collector.distinct >= wanted or (collector.has(ending) and time.monotonic() - since > QUIET_S)

        wait_for("every record, or at least the last", over, self.settle_s)

    def _kept(self, number: int) -> bytes | None:
        """The record as it must be at the sink, if it must get there."""
        must = self.expect(number)
        if not isinstance(must, Kept):
            return None
        return json.dumps(must.record, separators=(",", ":"), ensure_ascii=False).encode()

    def _rows(self, cluster: Cluster) -> list[dict[str, Any]]:
        """The status once every node has told of a settled stage."""

        def rows() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = cluster.status(self.id)["stages"]
            return found if all(row["in_flight"] == 0 for row in found) else []

        wait_for("every node is back", lambda: set(cluster.agents) <= cluster.connected(), 60.0)
        settled: list[dict[str, Any]] = wait_for("settled counters", rows)
        return settled

    def _duplicates_limit(self) -> int:
        """A killed stage may repeat its window; a broker that comes back (or to which a link comes back), the
        window of all that read there and what all that write there had open."""
        kills = self.crashes + sum(fault.kind is Kind.KILL_STAGE for fault in self.faults)
        stops = sum(fault.kind in {Kind.STOP_BROKER, Kind.CUT_LINK} for fault in self.faults)
        return WINDOW * kills + stops * (2 * WINDOW * len(self.stages) + 2000)


def _collector(broker: Broker, topic: str) -> Collector:
    return KafkaCollector(broker.server, topic) if isinstance(broker, Kafka) else Collector(broker.port, topic)
