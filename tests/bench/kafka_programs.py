"""What is run over a topic of Kafka: a stage of Fogline as a process of its own, and its peers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from bench.kafka_load import CALL_S, Records, Topic, arrivals, compare, fill_hidden, make_topic, rate_of
from fogline.runtimes.options import BATCH_SIZES
from fogline.runtimes.spec import EndpointSpec, SegmentSpec, StageSpec
from support.kafka import Kafka
from support.segments import RunningSegment, segment, wait_until

PARTITIONS = 4
TESTS = Path(__file__).parents[1]
SHOWN = 2000

Alive = Callable[[], None]
"""Raises when the program has ended."""


class Stage:
    """The stage under test, at one broker."""

    def __init__(self, server: Kafka, model: Path) -> None:
        self.server, self._model = server, model

    def reading(
        self, source: Topic, *, exactly_once: bool = False
    ) -> Callable[[Topic, Path], AbstractContextManager[Alive]]:
        """From the beginning of `source`, under a new name."""

        @contextmanager
        def start(sink: Topic, folder: Path) -> Iterator[Alive]:
            with RunningSegment(self.spec(source, sink, exactly_once=exactly_once), folder) as running:
                yield lambda: _must_run(running.process, folder / "log")

        return start

    def spec(self, source: Topic, sink: Topic, replica: int = 0, *, exactly_once: bool = False) -> SegmentSpec:
        """One process of it; `replica` tells processes of one group apart."""
        stage = StageSpec(
            "judge",
            "sklearn",
            ("in",),
            ("out",),
            path=str(self._model),
            options={"input": "features", "output": "score"},
        )
        group = _group(sink)
        reads = self._end("in", source, f"{group}.{replica}", group=group, exactly_once=exactly_once)
        writes = self._end("out", sink, f"{group}.out.{replica}", exactly_once=exactly_once)
        return segment(stage, sources=(reads,), sinks=(writes,), max_size=BATCH_SIZES["kafka"])

    def _end(self, queue: str, topic: Topic, client_id: str, **more: Any) -> EndpointSpec:
        options = {"server": "127.0.0.1", "port": self.server.port, "topic": topic.name}
        return EndpointSpec(queue, "judge", "kafka", options, client_id, **more)


def peer(
    python: Path, module: str, source: Topic, model: Path
) -> Callable[[Topic, Path], AbstractContextManager[Alive]]:
    """A script of `kafka_peers`, run by the interpreter of its own environment."""

    @contextmanager
    def start(sink: Topic, folder: Path) -> Iterator[Alive]:
        script = f"bench.kafka_peers.{module}"
        argv = [str(python), "-m", script, source.server, source.name, sink.name, _group(sink), str(model)]
        with (folder / "log").open("wb") as log:
            environment = os.environ | {"PYTHONPATH": str(TESTS)}
            process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            yield lambda: _must_run(process, folder / "log")
        finally:
            process.kill()
            process.wait()

    return start


def shared_rate(folder: Path, stage: Stage, records: Records, *, processes: int) -> float:
    """Several processes of one group, which all have their partitions when the topic fills at a stroke."""
    source, sink = (make_topic(stage.server.server, PARTITIONS) for _ in range(2))
    show = fill_hidden(source, records.payloads())
    with ExitStack() as stack:
        for replica in range(processes):
            running = RunningSegment(stage.spec(source, sink, replica), folder / str(replica))
            stack.enter_context(running)
        wait_until(lambda: _sharing(sink) == processes, "every process has partitions", 60.0)
        show()
        found = arrivals(sink, records.count)
    compare(found, records, records.count)
    return rate_of(found, records.count)


def _sharing(sink: Topic) -> int:
    """How many members of the group have partitions, while all partitions have somebody."""
    admin = AdminClient({"bootstrap.servers": sink.server, "log_level": 0})
    group = admin.describe_consumer_groups([_group(sink)], request_timeout=CALL_S)[_group(sink)].result()
    counts = [len(each.assignment.topic_partitions) for each in group.members if each.assignment is not None]
    return sum(map(bool, counts)) if sum(counts) == PARTITIONS else 0


def _group(sink: Topic) -> str:
    return f"reader-of-{sink.name}"


def _must_run(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        said = log.read_text(errors="replace").strip()[-SHOWN:]
        raise RuntimeError(f"ended with {process.returncode}: {said.rpartition(chr(10))[2]}\n{said}")
