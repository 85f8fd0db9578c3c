"""How a segment process ends: its exit code, and its last words for agent and people: `failure.json`, or, at the end
of its input, `finished.json`."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

from fogline.runtimes.codecs import shown
from fogline.runtimes.errors import Cut, RecordFailed, StageUnusable, StartAgain, Superseded
from fogline.runtimes.logs import log
from fogline.runtimes.pump import Unfinished
from fogline.runtimes.spec import Exit, SegmentSpec, SpecError
from fogline.runtimes.traces import TRACE_LIMIT_BYTES, sentence

FAILURE = "failure.json"
FINISHED = "finished.json"
CRASHED = 1


def ended_by(error: BaseException, workspace: Path) -> int:
    """Write the last words down and log them; the exit code."""
    code, last_words = _last_words(error)
    _write_whole(workspace / FAILURE, last_words)
    log.error("%s", "\n".join(filter(None, (last_words["reason"], last_words["trace"]))))
    return code


def finished(status: dict[str, Any], spec: SegmentSpec, workspace: Path) -> str:
    """Write down that the input has ended and all of it is acknowledged, with the last counters; the sentence."""
    counters = {each["name"]: each["counters"] for each in status["stages"]}
    reads, writes = {each.stage for each in spec.sources}, {each.stage for each in spec.sinks}
    counts = {
        "in": sum(counters[stage]["in"] for stage in reads),
        "out": sum(counters[stage]["out"] for stage in writes),
        "dead-lettered": sum(each["dead_lettered"] for each in counters.values()),
        "dropped": sum(each["dropped"] for each in counters.values()),
    }
    told = [f"{count} {word}" for word, count in counts.items() if count or word in {"in", "out"}]
    reason = f"end of input: {', '.join(told)}"
    _write_whole(workspace / FINISHED, {"reason": reason, "stages": status["stages"]})
    return reason


def _last_words(error: BaseException) -> tuple[int, dict[str, Any]]:
    match error:
        case RecordFailed(failure=failure):
            record = shown(failure.record)
            return Exit.RECORD_FAILED, _words(failure.stage, failure.reason, failure.trace, record, failure.attempts)
        case StageUnusable(stage=stage, reason=reason, trace=trace):
            return Exit.STAGE_UNUSABLE, _words(stage, reason, trace)
        case SpecError():
            return Exit.BAD_SPEC, _words("", str(error))
        case Superseded(reason=reason):
            return Exit.SUPERSEDED, _words("", reason)
        case Unfinished() | StartAgain() | Cut():
            return CRASHED, _words("", str(error))
        case _:
            return CRASHED, _words("", sentence(error), traceback.format_exc()[-TRACE_LIMIT_BYTES:])


def _words(stage: str, reason: str, trace: str = "", record: str = "", attempts: int = 0) -> dict[str, Any]:
    return {"stage": stage, "reason": reason, "trace": trace, "record": record, "attempts": attempts}


def _write_whole(path: Path, document: dict[str, Any]) -> None:
    """A reader finds the old file, the new one or none, never a half."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document))
    partial.replace(path)
