"""`test`: the whole pipeline in this process, without a broker. JSON lines in, JSON lines out."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import IO

from fogline.runtimes.assembly import load_stages
from fogline.runtimes.codecs import shown
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import Failure, StageUnusable
from fogline.runtimes.graph import SinkKey, StageGraph, Wiring
from fogline.runtimes.lines import chunks
from fogline.runtimes.message import Item
from fogline.runtimes.spec import Exit, SegmentSpec, SpecError
from fogline.runtimes.taps import Taps

SHOWN_BYTES = 300
TRACES_SHOWN = 5


def trial(spec: SegmentSpec, artifacts: Path, lines: int, out: IO[bytes]) -> int:
    """Every line of descriptor `lines` is one record on the queues that no stage writes; what reaches
    the queues that no stage reads is written to `out`, in order. Each record that fails is told on standard
    error, and the run goes on, unless its stage's `on-error` says `stop`. Returns the exit code: not 0
    when there was a failure that `on-error` does not drop; the reason goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as an exception in user code it would be a failed record
    try:
        stages = load_stages(spec, artifacts)
    except SpecError as error:
        return _end(Exit.BAD_SPEC, str(error))
    except StageUnusable as error:
        return _end(Exit.STAGE_UNUSABLE, f"{error}\n{error.trace}".rstrip())
    read = {queue for stage in spec.stages for queue in stage.inputs}
    written = {queue for stage in spec.stages for queue in stage.outputs}
    last = frozenset((stage.name, queue) for stage in spec.stages for queue in stage.outputs if queue not in read)
    first = [stage.name for stage in spec.stages if set(stage.inputs) - written]
    if not first:
        return _end(Exit.BAD_SPEC, "every stage reads what another writes: there is no first queue")
    graph = StageGraph(stages, Wiring(last), Counters([stage.name for stage in spec.stages]), Taps())
    return _feed(graph, first, sorted(last), spec.batch.max_size, lines, out)


def _feed(graph: StageGraph, first: list[str], last: list[SinkKey], size: int, lines: int, out: IO[bytes]) -> int:
    number = failed = kept = 0
    for chunk in chunks(lines, size):
        items = [Item(number + place, "", line) for place, line in enumerate(chunk, 1) if line.strip()]
        number += len(chunk)
        if not items:
            continue
        flow = graph.run(dict.fromkeys(first, items))
        results = [item for key in last for item in flow.outputs.get(key, [])]
        results.sort(key=lambda item: item.origin)  # stable: by record, then by queue
        out.writelines(item.payload + b"\n" for item in results)
        out.flush()
        for failure in sorted((*flow.letters.values(), *flow.dropped.values()), key=lambda each: each.origin):
            failed += 1
            _say(_told(failure, with_trace=failed <= TRACES_SHOWN))
        if flow.failure is not None:
            return _end(Exit.RECORD_FAILED, _told(flow.failure))
        kept += len(flow.letters)
    return _end(Exit.RECORD_FAILED, f"{kept} records failed: they would be dead letters") if kept else Exit.DONE


def _told(failure: Failure, *, with_trace: bool = True) -> str:
    record = shown(failure.record, SHOWN_BYTES)
    words = failure.trace if with_trace and failure.trace else failure.reason
    return f"stage {failure.stage} failed on record {failure.origin}: {record}\n{words}"


def _end(code: int, reason: str) -> int:
    _say(reason)
    return code


def _say(words: str) -> None:
    print(words.rstrip(), file=sys.stderr)
