"""`test`: the whole pipeline in this process, without a broker. Records in, JSON lines out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fogline.runtimes.assembly import load_stages
from fogline.runtimes.codecs import Decode, codec, decode_json, shown
from fogline.runtimes.connectors.file_reader import Reader, matching
from fogline.runtimes.connectors.file_rows import BadHeader
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import Failure, StageUnusable
from fogline.runtimes.graph import SinkKey, StageGraph, Wiring
from fogline.runtimes.lines import chunks
from fogline.runtimes.message import Item
from fogline.runtimes.options import file_format
from fogline.runtimes.serving.chain import opened
from fogline.runtimes.spec import Exit, SegmentSpec, SpecError
from fogline.runtimes.taps import Taps

SHOWN_BYTES = 300
TRACES_SHOWN = 5


@dataclass(frozen=True)
class _Feed:
    """Records for some stages, in batches. An item's origin is its number, its id what people call it."""

    stages: tuple[str, ...]
    decode: Decode
    batches: Iterator[list[Item]]


def trial(spec: SegmentSpec, artifacts: Path, given: int | Path | None, out: IO[bytes]) -> int:
    """Run records on the queues that no stage writes; what reaches the queues that no stage reads is written to
    `out`, in order. The records are the lines of a descriptor, the csv rows or JSON lines of a file, or (None) what
    the spec's own file queues hold. Each that fails is told on standard error, and the run goes on, unless its
    stage's `on-error` says `stop`. Returns the exit code: not 0 when there was a failure that `on-error` does not
    drop; the reason goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as an exception in user code it would be a failed record
    spec = opened(spec)
    try:
        stages = load_stages(spec, artifacts)
    except SpecError as error:
        return _end(Exit.BAD_SPEC, str(error))
    except StageUnusable as error:
        return _end(Exit.STAGE_UNUSABLE, f"{error}\n{error.trace}".rstrip())
    read = {queue for stage in spec.stages for queue in stage.inputs}
    written = {queue for stage in spec.stages for queue in stage.outputs}
    last = frozenset((stage.name, queue) for stage in spec.stages for queue in stage.outputs if queue not in read)
    first = tuple(stage.name for stage in spec.stages if set(stage.inputs) - written)
    if not first:
        return _end(Exit.BAD_SPEC, "every stage reads what another writes: there is no first queue")
    graph = StageGraph(stages, Wiring(last), Counters([stage.name for stage in spec.stages]), Taps())
    try:
        return _run(graph, _feeds(spec, first, given), sorted(last), out)
    except (OSError, BadHeader) as error:
        return _end(Exit.NOT_CONNECTED, str(error))


def _feeds(spec: SegmentSpec, first: tuple[str, ...], given: int | Path | None) -> Iterator[_Feed]:
    size = spec.batch.max_size
    if isinstance(given, int):
        yield _Feed(first, decode_json, _from_lines(given, size))
    elif given is not None:
        delimiter = next((str(each.options["delimiter"]) for each in spec.sources if "delimiter" in each.options), ",")
        format_ = file_format(str(given)) or "json"
        yield _Feed(first, codec(format_)[0], _from_file(str(given), format_, delimiter, size))
    else:
        for source in spec.sources:
            options = {key: str(value) for key, value in source.options.items()}
            if not matching(options["path"]):
                raise OSError(f"queue {source.queue}: no file matches {options['path']}")
            rows = _from_file(options["path"], options["format"], options["delimiter"], size)
            yield _Feed((source.stage,), codec(options["format"])[0], rows)


def _from_lines(descriptor: int, size: int) -> Iterator[list[Item]]:
    number = 0
    for chunk in chunks(descriptor, size):
        yield [
            Item(number + place, f"record {number + place}", line)
            for place, line in enumerate(chunk, 1)
            if line.strip()
        ]
        number += len(chunk)


def _from_file(pattern: str, format_: str, delimiter: str, size: int) -> Iterator[list[Item]]:
    reader, number = Reader(pattern, format_, delimiter), 0
    batch = list[Item]()
    while (found := reader.next()) is not None:
        opened, row = found
        number += 1
        batch.append(Item(number, f"{opened.path}:{row.line}", row.payload))
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


def _run(graph: StageGraph, feeds: Iterator[_Feed], last: Sequence[SinkKey], out: IO[bytes]) -> int:
    failed = kept = 0
    for feed, items in ((each, batch) for each in feeds for batch in each.batches if batch):
        flow = graph.run(dict.fromkeys(feed.stages, items), feed.decode)
        results = [item for key in last for item in flow.outputs.get(key, [])]
        results.sort(key=lambda item: item.origin)  # stable: by record, then by queue
        out.writelines(item.payload + b"\n" for item in results)
        out.flush()
        names = {item.origin: item.id for item in items}
        for failure in sorted((*flow.letters.values(), *flow.dropped.values()), key=lambda each: each.origin):
            failed += 1
            _say(_told(failure, names[failure.origin], with_trace=failed <= TRACES_SHOWN))
        if flow.failure is not None:
            return _end(Exit.RECORD_FAILED, _told(flow.failure, names[flow.failure.origin]))
        kept += len(flow.letters)
    return _end(Exit.RECORD_FAILED, f"{kept} records failed: they would be dead letters") if kept else Exit.DONE


def _told(failure: Failure, name: str, *, with_trace: bool = True) -> str:
    record = shown(failure.record, SHOWN_BYTES)
    words = failure.trace if with_trace and failure.trace else failure.reason
    return f"stage {failure.stage} failed on {name}: {record}\n{words}"


def _end(code: int, reason: str) -> int:
    _say(reason)
    return code


def _say(words: str) -> None:
    print(words.rstrip(), file=sys.stderr)
