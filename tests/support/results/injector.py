"""Carries out a schedule of faults while the load runs, and writes down what each of them did."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from support.cluster import Cluster, wait_for
from support.kafka import Kafka
from support.link import Link
from support.mosquitto import Mosquitto
from support.results.faults import Fault, Kind
from support.results.ledger import Outcome
from support.results.processes import Sight, Watch, of_stage

BACK_S = 90.0
"""What was hit must work again after so long."""
BUSY_S = 15.0
"""How long a kill may wait for its process to have something in hand."""
REDELIVERY_S = 1.0
"""What comes again has come so long after the first record that a killed process's successor reads."""
CUT_OFF_S = 1.0
"""What was under way when a link was cut has arrived, or will not, after so long."""
TRIES = 8
"""So often a kill that hit an idle process is repeated before the run is void."""


@dataclass(frozen=True)
class Targets:
    """What can be hit."""

    cluster: Cluster
    brokers: Mapping[str, Mosquitto | Kafka]
    watch: Watch
    insist: bool = True
    """A kill waits until its process has something in hand, and is repeated when nothing came again."""
    telling: bool = True
    """The sources tell what comes again. Else it is enough that the process had something in hand."""
    links: Mapping[str, Link] = field(default_factory=dict)
    """Stage -> the network of its node."""


class Injector:
    """`with Injector(targets, faults) as injector: ...; injector.wait()`.

    Each stage, agent and broker has a lane of its own: the lanes know nothing of each other, so that a stage is
    killed while its agent or its broker is away. In one lane a fault that is due waits until what the one
    before it hit works again, so that none hits thin air.
    """

    def __init__(self, targets: Targets, faults: Sequence[Fault]) -> None:
        self.outcomes: list[Outcome] = []
        self.errors: list[str] = []
        self._targets = targets
        self._began = 0.0
        self._stop = threading.Event()
        lanes: dict[str, list[Fault]] = {}
        for fault in faults:
            lanes.setdefault(fault.target, []).append(fault)
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"faults of {target}", daemon=True)
            for target, lane in lanes.items()
        ]

    def __enter__(self) -> Injector:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def under_way(self) -> bool:
        """Whether a fault is still to come, or what one hit does not work again."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float) -> None:
        """Until every fault is carried out and what it hit works again."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not self.errors, "; ".join(self.errors)
        late = [thread.name for thread in self._threads if thread.is_alive()]
        assert not late, f"not within {seconds} s: {', '.join(late)}"

    def _run(self, lane: Sequence[Fault]) -> None:
        try:
            for fault in lane:
                if self._stop.wait(max(0.0, self._began + fault.at_s - time.monotonic())):
                    return
                self._carry_out(fault)
        except Exception as error:  # noqa: BLE001 - told in `wait`, by the thread that can fail the test
            self.errors.append(f"{lane[0].target}: {error!r}")

    def _carry_out(self, fault: Fault) -> None:
        acts: dict[Kind, Callable[[Fault], tuple[str, str]]] = {
            Kind.KILL_STAGE: self._kill_stage,
            Kind.KILL_AGENT: self._kill_agent,
            Kind.STOP_BROKER: self._stop_broker,
            Kind.KILL_COORDINATOR: self._kill_coordinator,
            Kind.CUT_LINK: self._cut_link,
        }
        at = time.monotonic()
        note, void = acts[fault.kind](fault)
        took_s = time.monotonic() - at - fault.for_s
        self.outcomes.append(Outcome(fault, at - self._began, took_s, note, void))

    def _kill_stage(self, fault: Fault) -> tuple[str, str]:
        """Kill, and kill again when nothing was being worked on: such a kill could have lost nothing."""
        for tries in range(1, TRIES + 1):
            struck, again = self._strike(fault.target)
            if again or not self._targets.insist:
                return f"pid {struck.pid}, {again} records came again" + (f", try {tries}" if tries > 1 else ""), ""
        return "", f"{TRIES} kills in a row hit an idle process"

    def _strike(self, stage: str) -> tuple[Sight, int]:
        """Kill the stage's process; returns who it was, and how many records its successor got again."""
        struck, before = self._ready(stage, "works")
        deadline = time.monotonic() + (BUSY_S if self._targets.insist else 0.0)
        while not (held := struck.counter("in_flight")) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._targets.watch.killed.add(struck.pid)
        os.kill(struck.pid, signal.SIGKILL)
        successor, counted = self._ready(stage, "works again", former=struck.pid)
        if not self._targets.telling:
            return struck, held or 0
        if self._targets.insist:
            counted = _redelivered(successor, counted, before)
        return struck, counted - before

    def _ready(self, stage: str, what: str, former: int = 0) -> tuple[Sight, int]:
        """The process of a stage once it is ready, and how many records it was given again so far."""

        def found() -> tuple[Sight, int] | None:
            sight = of_stage(self._targets.cluster.folder, stage)
            status = sight.status() if sight is not None and sight.pid != former else None
            if sight is None or status is None or status["state"] != "ready":
                return None
            return sight, int(status["stages"][0]["counters"]["redelivered"])

        ready: tuple[Sight, int] = wait_for(f"stage {stage} {what}", found, BACK_S)
        return ready

    def _kill_agent(self, fault: Fault) -> tuple[str, str]:
        agent = self._targets.cluster.agents[fault.target]
        agent.end(signal.SIGKILL)
        agent.start()
        return f"pid {agent.pid}", ""

    def _stop_broker(self, fault: Fault) -> tuple[str, str]:
        broker = self._targets.brokers[fault.target]
        broker.stop()
        self._stop.wait(fault.for_s)
        broker.start()
        return f"port {broker.port}", ""

    def _cut_link(self, fault: Fault) -> tuple[str, str]:
        """Cut, mend, and wait until the node is back and the stage works; what passed meanwhile makes it void."""
        link, cluster = self._targets.links[fault.target], self._targets.cluster
        sight, _ = self._ready(fault.target, "works")
        link.cut()
        try:
            self._stop.wait(CUT_OFF_S)
            before = sight.counter("in")
            self._stop.wait(fault.for_s - CUT_OFF_S)
            passed = (sight.counter("in") or 0) - (before or 0)
        finally:
            link.mend()
        wait_for("every node is back", lambda: set(cluster.agents) <= cluster.connected(), BACK_S)
        wait_for(f"stage {fault.target} goes on", lambda: (sight.counter("in") or 0) > (before or 0) + passed, BACK_S)
        return f"pid {sight.pid}", f"{passed} records came over a link that was cut" if passed else ""

    def _kill_coordinator(self, fault: Fault) -> tuple[str, str]:
        cluster = self._targets.cluster
        cluster.coordinator.end(signal.SIGKILL)
        self._stop.wait(fault.for_s)
        cluster.coordinator.start()
        wait_for("every node is back", lambda: set(cluster.agents) <= cluster.connected(), BACK_S)
        return f"pid {cluster.coordinator.pid}", ""


def _redelivered(successor: Sight, counted: int, before: int) -> int:
    """The counter, once it has grown or what the successor read first was read before by nobody."""
    entered = successor.counter("in") or 0
    deadline = time.monotonic() + BUSY_S
    while counted <= before and time.monotonic() < deadline:
        time.sleep(0.05)
        counted = successor.counter("redelivered") or before
        if (successor.counter("in") or 0) > entered:
            deadline = min(deadline, time.monotonic() + REDELIVERY_S)
    return counted
