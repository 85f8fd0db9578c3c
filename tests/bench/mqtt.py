"""The MQTT stage: JSON, model, JSON, one record per message, at least once, over a real mosquitto.

One client (`load`) feeds the program and reads what it makes, with at most so many records between the two: a
steady load for the fast and the slow alike. (A backlog is none: a program that acknowledges on entry
swallows it first and then pours out, which looks fast.) The rate is that of the records that come out, the
first fifth left out; contents are compared with what the model answers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.load import Course, Drive, by_c, by_python, compiled
from bench.models import Models, write
from bench.peers import CLIENT_ID, SINK, SOURCE
from bench.raw_mqtt import make_session
from bench.rows import Row, compared
from bench.size import Size
from fogline.runtimes.connectors.envelopes import pack, unpack
from fogline.runtimes.message import Item
from fogline.runtimes.spec import StageSpec
from support.mosquitto import QUIET, Mosquitto
from support.segments import RunningSegment, mqtt_end, segment

BROKER = ("max_inflight_messages 0", *QUIET)
"""No window of the broker's own, as in every broker Fogline starts, and no log of each packet."""
BETWEEN = 500
"""Records between source and sink."""
ENVELOPE, ENVELOPES_BETWEEN = 64, 50
MORE = 4
"""So many times more records where a message carries many."""
SLOWER = 30
"""So many times fewer for a program that makes some hundred a second."""
TESTS = Path(__file__).parents[1]
READER = "fogline.test.p.judge.in.0"


@dataclass(frozen=True)
class Contender:
    """A program under test."""

    client_id: str
    start: Callable[[Mosquitto, Path], AbstractContextManager[object]]
    slower: int = 1
    """It gets so many times fewer records."""
    scores: bool = True
    """It adds the model's answer."""
    envelopes: int = 1
    """Records in one message, on both sides."""


def rows(folder: Path, size: Size) -> list[Row]:
    """Ours against the naive way, the tuned ones and the limit of the broker."""
    models = write(folder, size.records * MORE)
    contenders = {
        "ours": Contender(READER, _ours(models.sklearn, "sklearn")),
        "naive": Contender(CLIENT_ID, _peer("naive", models.sklearn), slower=SLOWER),
        "tutorial": Contender(CLIENT_ID, _peer("tutorial", models.sklearn), slower=SLOWER),
        "tuned": Contender(CLIENT_ID, _peer("tuned", models.sklearn), slower=4),
        "batches": Contender(CLIENT_ID, _peer("batches", models.sklearn)),
        "relay": Contender(CLIENT_ID, _peer("relay", models.onnx), scores=False),
        "ours, linked": Contender(READER, _ours(models.sklearn, "sklearn", envelopes=True), envelopes=ENVELOPE),
        "ours, ONNX": Contender(READER, _ours(models.onnx, "onnx")),
        "tuned, ONNX": Contender(CLIENT_ID, _peer("tuned", models.onnx), slower=4),
        "batches, ONNX": Contender(CLIENT_ID, _peer("batches", models.onnx)),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(size.rounds):
        for name, contender in contenders.items():
            count = size.records // contender.slower * (MORE if contender.envelopes > 1 else 1)
            rates[name].append(_rate(folder / f"{turn}-{name}", contender, models, count))

    def row(ours: str, theirs: str, against: str, budget: str | None = None) -> Row:
        what = f"MQTT stage, {'ONNX' if 'ONNX' in ours else 'scikit-learn'}"
        what += f", automatic queues, {ENVELOPE} records a message" if "linked" in ours else ""
        what += "" if compiled() else ", load in Python: no cc"
        return compared(what, "records/s", against, list(zip(rates[ours], rates[theirs], strict=True)), budget)

    return [
        row("ours", "naive", "naive: paho as shipped, json, acknowledged after the output", ">= 50x"),
        row("ours", "tutorial", "the same acknowledged on entry (loses what is in flight)"),
        row("ours", "tuned", "paho tuned, predict per record", ">= 6x"),
        row("ours", "batches", "paho tuned, predict per loop turn", ">= 2.3x"),
        row("ours", "relay", "the broker: raw relay, no work"),
        row("ours, linked", "ours", "the same on plain queues", ">= 5x"),
        row("ours, ONNX", "tuned, ONNX", "paho tuned, predict per record"),
        row("ours, ONNX", "batches, ONNX", "paho tuned, predict per loop turn"),
    ]


def _rate(folder: Path, contender: Contender, models: Models, count: int) -> float:
    """Records a second of one run over `count` records."""
    fed, between = _enveloped(models.payloads[:count], contender.envelopes)
    with Mosquitto(folder / "broker", extra=BROKER) as broker:
        make_session(broker.port, contender.client_id, SOURCE)
        course = Course(broker.port, SOURCE, SINK, between)
        with _load(course, fed, contender, folder) as drive, contender.start(broker, folder):
            made, times = drive()
    payloads, times = _opened(made, times) if contender.envelopes > 1 else (made, times)
    _compare(payloads, models, count, scores=contender.scores)
    first = count // 5
    return (count - first) / (times[-1] - times[first - 1])


def _load(course: Course, fed: list[bytes], contender: Contender, folder: Path) -> AbstractContextManager[Drive]:
    """Few messages with many records each are opened as they come, and that only Python can."""
    if contender.envelopes > 1:
        return by_python(course, fed, _records_in)
    program = compiled()
    return by_c(program, course, fed, folder / "load") if program else by_python(course, fed, _one)


def _enveloped(payloads: list[bytes], size: int) -> tuple[list[bytes], int]:
    """What to feed, and how many messages of it between source and sink."""
    if size == 1:
        return payloads, BETWEEN
    items = [Item(0, str(number), payload) for number, payload in enumerate(payloads)]
    return [pack(items[at : at + size]) for at in range(0, len(items), size)], ENVELOPES_BETWEEN


def _records_in(envelope: bytes) -> int:
    return len(unpack(envelope))


def _one(_message: bytes) -> int:
    return 1


def _opened(made: list[bytes], times: list[float]) -> tuple[list[bytes], list[float]]:
    """Every record, with the time of its envelope."""
    pairs = [(payload, at) for each, at in zip(made, times, strict=True) for _, payload, _ in unpack(each)]
    return [payload for payload, _ in pairs], [at for _, at in pairs]


def _compare(payloads: list[bytes], models: Models, count: int, *, scores: bool) -> None:
    found = {record["n"]: record for record in map(orjson.loads, payloads)}
    wanted = models.expected[:count] if scores else [orjson.loads(each) for each in models.payloads[:count]]
    wrong = [record for record in wanted if found.get(record["n"]) != record]
    if wrong:
        raise ValueError(f"{len(wrong)} of {count} records are missing or wrong, the first: {wrong[0]}")


def _ours(
    model: Path, framework: str, *, envelopes: bool = False
) -> Callable[[Mosquitto, Path], AbstractContextManager[object]]:
    def start(broker: Mosquitto, folder: Path) -> RunningSegment:
        options = {"input": "features", "output": "score"}
        stage = StageSpec("judge", framework, ("in",), ("out",), path=str(model), options=options)
        source = mqtt_end("in", "judge", broker.port, options={"topic": SOURCE}, envelopes=envelopes)
        sink = mqtt_end("out", "judge", broker.port, options={"topic": SINK}, envelopes=envelopes)
        return RunningSegment(segment(stage, sources=(source,), sinks=(sink,)), folder / "segment")

    return start


def _peer(kind: str, model: Path) -> Callable[[Mosquitto, Path], AbstractContextManager[object]]:
    @contextmanager
    def start(broker: Mosquitto, folder: Path) -> Iterator[None]:
        argv = [sys.executable, "-m", "bench.peers", kind, str(broker.port), str(model)]
        with (folder / "peer.log").open("wb") as log:
            process = subprocess.Popen(
                argv, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
            )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    return start
