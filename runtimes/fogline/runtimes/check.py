"""`check`: would this segment start here? Loads every stage, reaches every broker, leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import orjson

from fogline.runtimes import registry
from fogline.runtimes.assembly import load_stages, read_spec
from fogline.runtimes.errors import NotConnected, StageUnusable
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import Exit, SegmentSpec, SpecError


def check(path: Path, artifacts: Path, out: IO[bytes]) -> int:
    """One JSON line: `{"ok": true, ...}`, or the stage and the reason; returns the exit code."""
    code, answer = _checked(path, artifacts)
    out.write(orjson.dumps(answer) + b"\n")
    out.flush()
    return code


def _checked(path: Path, artifacts: Path) -> tuple[int, dict[str, Any]]:
    try:
        spec = read_spec(path)
        loaded = load_stages(spec, artifacts)
        if spec.serving is not None:
            from fogline.runtimes.serving import certificate
            from fogline.runtimes.serving.segment import check as check_serving

            check_serving(spec.serving, [stage for stage, _ in loaded])
            certificate.check(spec.serving)
    except SpecError as error:
        return Exit.BAD_SPEC, _no("", str(error))
    except StageUnusable as error:
        return Exit.STAGE_UNUSABLE, _no(error.stage, error.reason, error.trace)
    return _reached(spec)


def _reached(spec: SegmentSpec) -> tuple[int, dict[str, Any]]:
    poller = Poller()
    stage = ""
    try:
        for sink in spec.sinks:
            stage = sink.stage
            registry.connector(sink).sink(sink, poller)  # its options, before any connection
        for endpoint in (*spec.sources, *spec.sinks):
            stage = endpoint.stage
            registry.connector(endpoint).check(endpoint)
    except SpecError as error:
        return Exit.BAD_SPEC, _no(stage, str(error))
    except StageUnusable as error:
        return Exit.STAGE_UNUSABLE, _no(error.stage, error.reason)
    except NotConnected as error:
        return Exit.NOT_CONNECTED, _no(stage, error.reason)
    finally:
        poller.close()
    return Exit.DONE, {"ok": True, "stage": "", "reason": "", "trace": ""}


def _no(stage: str, reason: str, trace: str = "") -> dict[str, Any]:
    return {"ok": False, "stage": stage, "reason": reason, "trace": trace}
