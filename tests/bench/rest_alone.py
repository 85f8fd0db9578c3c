"""The latency of one client's answers, without the model's own time: what the server costs.

One client and the server never run at the same time. On one core the figure is the server's; on two it holds also how
long the machine takes to wake the other core, twice per request, which is most of it where cores are virtual.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.models import Models
from bench.rest_load import load
from bench.rest_servers import Running
from bench.rows import Row, measured
from bench.size import Size
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.frameworks.sklearn_model import SklearnModel
from fogline.runtimes.spec import StageSpec

BUDGET = "<= 0.15 ms"
TURNS = 5
"""For each pair of the other rows: short ones, since what is subtracted drifts with the machine."""


def rows(own: Running, models: Models, size: Size) -> list[Row]:
    """The medians of many turns, on one core and on two."""
    stage = StageSpec("model", "sklearn", (), (), path=str(models.sklearn), options={"input": "features"})
    model = SklearnModel(stage, models.sklearn.parent)
    model.load()
    record = json.loads(models.payloads[0])
    one_core, cores = [], []
    for _ in range(TURNS * size.rest_pairs):
        with _on_one_core(own.pid):
            alone_ms = _own_ms(model, record, size.rest_s / 8)
            one_core.append(load(own.doors["plain"], models, 1, size.rest_s / 3).p50_ms - alone_ms)
        alone_ms = _own_ms(model, record, size.rest_s / 8)
        cores.append(load(own.doors["plain"], models, 1, size.rest_s / 3).p50_ms - alone_ms)
    name = "REST p50, 1 client, beyond the model's own"
    return [
        measured(f"{name}, both on one core", statistics.median(one_core), "ms", BUDGET),
        measured(f"{name}, on any core", statistics.median(cores), "ms", BUDGET),
    ]


def _own_ms(model: Framework, record: object, seconds: float) -> float:
    """The median of the model alone."""
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        time.sleep(0.0001)  # as in a server, which sleeps until a request comes: caches are cold
        began = time.perf_counter()
        model.process([record])
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


@contextmanager
def _on_one_core(pid: int) -> Iterator[None]:
    """This process, what it starts meanwhile, and all threads of that one."""
    cores = os.sched_getaffinity(0)
    threads = [0, *(int(each.name) for each in Path(f"/proc/{pid}/task").iterdir())]
    for each in threads:
        os.sched_setaffinity(each, {min(cores)})
    try:
        yield
    finally:
        for each in threads:
            os.sched_setaffinity(each, cores)
