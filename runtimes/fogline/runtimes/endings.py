"""How a segment process ends: its exit code, and `failure.json`, its last words for agent and people."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

from fogline.runtimes.codecs import shown
from fogline.runtimes.errors import RecordFailed, StageUnusable, StartAgain, Superseded
from fogline.runtimes.logs import log
from fogline.runtimes.pump import Unfinished
from fogline.runtimes.spec import Exit, SpecError
from fogline.runtimes.traces import TRACE_LIMIT_BYTES, sentence

FAILURE = "failure.json"
CRASHED = 1


def ended_by(error: BaseException, workspace: Path) -> int:
    """Write the last words down and log them; the exit code."""
    code, last_words = _last_words(error)
    _write_whole(workspace / FAILURE, last_words)
    log.error("%s", "\n".join(filter(None, (last_words["reason"], last_words["trace"]))))
    return code


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
        case Unfinished() | StartAgain():
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
