"""From a spec to loaded stages: what `run`, `check` and `test` have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fogline.runtimes import registry
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.secrets import resolved
from fogline.runtimes.spec import SegmentSpec, SpecError, StageSpec, parse

_QUIET = {"ORT_DISABLE_TELEMETRY": "1"}
"""onnxruntime 1.32 sends usage data from inside its native library and leaves a file in the temporary folder
unless told otherwise before its import. A stage talks to its brokers and to nobody else."""

Loaded = list[tuple[StageSpec, Framework]]


def read_spec(path: Path) -> SegmentSpec:
    """The spec with its secrets. Raises SpecError when the file is not there or not a spec, or a secret is missing."""
    try:
        return resolved(parse(path.read_bytes()))
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {error.strerror}") from error


def load_stages(spec: SegmentSpec, artifacts: Path) -> Loaded:
    """Set the environment, then import and load every stage, in topological order.

    Raises StageUnusable, or SpecError for an unknown framework or a loop of stages.
    """
    os.environ.update(_QUIET | dict(spec.environment))
    loaded: Loaded = []
    for stage in topological(spec.stages):
        framework = registry.framework(stage, artifacts)
        framework.load()
        loaded.append((stage, framework))
    return loaded


def topological(stages: Iterable[StageSpec]) -> list[StageSpec]:
    """Writers before readers, otherwise as given. Raises SpecError for a loop."""
    left, ordered = list(stages), list[StageSpec]()
    while left:
        written = {queue for stage in left for queue in stage.outputs}
        free = next((stage for stage in left if not written & set(stage.inputs)), None)
        if free is None:
            raise SpecError(
                f"the stages {', '.join(stage.name for stage in left)} form a circle: each reads another's output"
            )
        left.remove(free)
        ordered.append(free)
    return ordered
