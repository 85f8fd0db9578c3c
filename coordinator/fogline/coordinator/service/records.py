"""Which segment to ask for a stage's log, a queue's records, or a place to put records."""

from __future__ import annotations

from collections.abc import Sequence

from fogline.coordinator.core.deployment import Copy
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import ErrorKind, FoglineError

Segments = Sequence[tuple[Copy, SegmentSpec]]


def unambiguous(given: str, names: Sequence[str], noun: str) -> str:
    """The name that `given` is, or begins. Raises FoglineError when none or several do."""
    if given in names:
        return given
    matches = [name for name in names if given and name.startswith(given)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise FoglineError(ErrorKind.AMBIGUOUS, f"{given} begins several names: {', '.join(matches)}")
    known = ", ".join(names) or "none"
    raise FoglineError(ErrorKind.NOT_FOUND, f"there is no {noun} {given!r}; known: {known}")


def segments_of(segments: Segments, stage: str) -> list[tuple[Copy, SegmentSpec]]:
    """The segment that runs `stage` (a name or its beginning); every segment when it is empty."""
    if not stage:
        return sorted(segments, key=lambda each: (each[0].depth, each[0].segment))
    name = unambiguous(stage, _stages(segments), "stage")
    return [each for each in segments if any(found.name == name for found in each[1].stages)]


def find_taps(segments: Segments, wanted: str) -> tuple[list[Copy], str]:
    """Where to listen to a queue: at each of its writers; where only foreigners write at one reader, all its copies.

    `wanted` is a queue, a link `a..b`, or a stage, which means what it writes; empty: the last queue.
    """
    if not wanted:
        wanted = _only(_last(segments), "last queue")
    queues = [queue for _, spec in segments for queue in spec.queues]
    names = sorted({*queues, *_stages(segments)})
    name = unambiguous(wanted, names, "queue or stage")
    for _, spec in segments:
        for stage in spec.stages:
            if name == stage.name and stage.outputs:
                name = _only(stage.outputs, f"output of stage {name}")
    writing = [copy for copy, spec in segments if any(name in stage.outputs for stage in spec.stages)]
    reading = [copy for copy, spec in segments if name in spec.queues]
    return writing or [copy for copy in reading if copy.segment == reading[0].segment], name


def first_queue(segments: Segments, wanted: str) -> tuple[Copy, str]:
    """The queue that records go into (by name, or the only one no stage here writes) and its reader."""
    read = sorted({source.queue for _, spec in segments for source in spec.sources})
    name = unambiguous(wanted, read, "queue that is read") if wanted else _only(_first(segments), "first queue")
    return next(copy for copy, spec in segments if any(source.queue == name for source in spec.sources)), name


def endpoint(segments: Segments, id_: str) -> Copy:
    """The copy that gets the requests of a pipeline in API mode. Raises FoglineError for one that reads queues."""
    served = sorted((copy for copy, spec in segments if spec.serving is not None), key=lambda each: each.depth)
    if not served:
        sentence = f"{id_} reads queues: put records into them by `coord send {id_}`"
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
    return served[0]


def letters_by_node(letters: Sequence[str]) -> dict[str, list[int]]:
    """Node -> numbers, of dead letters named NODE/NUMBER. Raises FoglineError for anything else."""
    found: dict[str, list[int]] = {}
    for letter in letters:
        node, _, number = letter.partition("/")
        if not node or not number.isascii() or not number.isdigit():
            sentence = (
                f"{letter!r} is not a dead letter: it is named NODE/NUMBER, as `coord dead-letters ID list` shows"
            )
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
        found.setdefault(node, []).append(int(number))
    return found


def _stages(segments: Segments) -> list[str]:
    return sorted({stage.name for _, spec in segments for stage in spec.stages})


def _first(segments: Segments) -> list[str]:
    written = {sink.queue for _, spec in segments for sink in spec.sinks}
    return sorted({source.queue for _, spec in segments for source in spec.sources} - written)


def _last(segments: Segments) -> list[str]:
    read = {source.queue for _, spec in segments for source in spec.sources}
    return sorted({sink.queue for _, spec in segments for sink in spec.sinks} - read)


def _only(names: Sequence[str], noun: str) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"this pipeline has no {noun}; name one")
    raise FoglineError(ErrorKind.AMBIGUOUS, f"this pipeline has several: {', '.join(names)}; name the {noun} you mean")
