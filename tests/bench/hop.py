"""Hop latency: what one code stage adds between publisher and subscriber at 100 records a second.

Through a stage a record crosses the broker twice; the bare way it does once. Both are measured in turns,
with the same client on either end.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import orjson

from bench.raw_mqtt import RawClient
from bench.rows import Row, compared, percentile
from bench.size import Size
from support.mosquitto import QUIET, Mosquitto
from support.segments import RunningSegment, code_stage, mqtt_end, segment, write_code

BROKER = ("max_inflight_messages 0", *QUIET)
INTERVAL_S = 0.01
DIRECT, STAGE_IN, STAGE_OUT = "bench/direct", "bench/in", "bench/out"
WARM_UP = 20
"""Records before the ones that count."""


def rows(folder: Path, size: Size) -> list[Row]:
    """p50 and p99 of the stage and of bare publish to subscribe."""
    code = write_code(folder / "code", "def handler(data):\n    return data\n")
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(folder / "broker", extra=BROKER))
        source = mqtt_end("in", "same", broker.port, options={"topic": STAGE_IN})
        sink = mqtt_end("out", "same", broker.port, options={"topic": STAGE_OUT})
        stage = code_stage("same", code, "in", "out")
        running = RunningSegment(segment(stage, sources=(source,), sinks=(sink,)), folder / "segment")
        stack.enter_context(running).until("ready")
        count = size.hop_records // size.rounds
        turns = [
            (_latencies_ms(broker.port, STAGE_IN, STAGE_OUT, count), _latencies_ms(broker.port, DIRECT, DIRECT, count))
            for _ in range(size.rounds)
        ]

    def row(share: float, budget: str | None) -> Row:
        pairs = [(percentile(ours, share), percentile(theirs, share)) for ours, theirs in turns]
        name = f"hop through a code stage at 100 records/s, p{share * 100:.0f}"
        return compared(name, "ms", "bare publish to subscribe", pairs, budget)

    return [row(0.5, "<= 3x"), row(0.99, None)]


def _latencies_ms(port: int, source: str, sink: str, count: int) -> list[float]:
    """From just before the publish until the subscriber has the record, for `count` records."""
    with RawClient(port) as subscriber, RawClient(port) as publisher:
        subscriber.subscribe(sink)
        total = WARM_UP + count
        publishing = threading.Thread(target=_publish, args=(publisher, source, total))
        publishing.start()
        payloads, times = subscriber.collect(total)
        publishing.join()
    records = [orjson.loads(payload) for payload in payloads]
    if sorted(record["n"] for record in records) != list(range(total)):
        raise ValueError(f"not every one of {total} records came once")
    return [
        (arrived - record["at"]) * 1000
        for record, arrived in zip(records, times, strict=True)
        if record["n"] >= WARM_UP
    ]


def _publish(client: RawClient, topic: str, total: int) -> None:
    began = time.perf_counter()
    for number in range(total):
        while (left_s := began + number * INTERVAL_S - time.perf_counter()) > 0:
            time.sleep(left_s)
        client.publish_all(topic, [orjson.dumps({"n": number, "at": time.perf_counter()})])
