"""`test`: the whole pipeline in this process, without a broker. JSON lines in, JSON lines out."""

from __future__ import annotations

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


def trial(spec: SegmentSpec, artifacts: Path, lines: int, out: IO[bytes]) -> int:
    """Every line of descriptor `lines` is one record on the queues that no stage writes; what reaches
    the queues that no stage reads is written to `out`, in order. Returns the exit code; the reason
    for any but 0 goes to standard error."""
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
    number = 0
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
        if flow.failure is not None:
            return _end(Exit.RECORD_FAILED, _told(flow.failure))
    return Exit.DONE


def _told(failure: Failure) -> str:
    record = shown(failure.record, SHOWN_BYTES)
    return f"stage {failure.stage} failed on record {failure.origin}: {record}\n{failure.trace or failure.reason}"


def _end(code: int, reason: str) -> int:
    print(reason.rstrip(), file=sys.stderr)
    return code
