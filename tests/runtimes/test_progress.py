"""What `stalled_s` says: time without a tick inside user code, nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

from fogline.runtimes.counters import Counters
from fogline.runtimes.frameworks.python_code import PythonCode
from fogline.runtimes.graph import StageGraph, Wiring
from fogline.runtimes.message import Item
from fogline.runtimes.progress import Progress
from fogline.runtimes.taps import Taps
from support.segments import code_stage, wait_until, write_code

HANDLER = """
import threading
gates = [threading.Event() for _ in range(3)]
reached = [threading.Event() for _ in range(3)]
def handler(data):
    reached[data].set()
    assert gates[data].wait(10)
    return data
"""


def test_it_is_zero_before_after_and_without_user_code() -> None:
    progress = Progress()
    assert progress.stalled_s == 0.0
    progress.tick()
    wait_until(lambda: progress.stalled_s > 0.02, "time passes")
    former = progress.ticked_at
    progress.tick()
    assert former is not None
    assert progress.ticked_at is not None
    assert progress.ticked_at > former + 0.02
    progress.leave()
    assert progress.stalled_s == 0.0


def test_a_code_stage_ticks_with_each_record_of_a_batch(tmp_path: Path) -> None:
    stage = code_stage("ticking", write_code(tmp_path, HANDLER), "in", "out")
    framework = PythonCode(stage, tmp_path)
    framework.load()
    gates, reached = framework._function.__globals__["gates"], framework._function.__globals__["reached"]
    graph = StageGraph([(stage, framework)], Wiring(frozenset()), Counters(["ticking"]), Taps())
    items = [Item(place, "", b"%d" % place) for place in range(3)]
    running = threading.Thread(target=graph.run, args=({"ticking": items},))
    running.start()
    ticks = list[float]()
    for place in range(3):
        assert reached[place].wait(10)
        wait_until(lambda: framework.progress.stalled_s > 0.01, "it stands still")
        ticks.append(framework.progress.ticked_at or 0.0)
        gates[place].set()
    running.join(10)
    assert framework.progress.stalled_s == 0.0
    assert 0.0 < ticks[0] < ticks[1] < ticks[2], "each record counts as progress"
