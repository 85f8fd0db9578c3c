"""What the operator of a node does not allow there. Pure."""

from __future__ import annotations

from collections.abc import Collection

from fogline.runtimes.options import FRAMEWORK_ALIASES
from fogline.runtimes.spec import SegmentSpec, StageSpec

PICKLE = "pickle"
_PICKLED = ("joblib", "pickle")
"""How a scikit-learn model may be written so that reading it runs whatever the file says; the first when nothing is
said."""


def refusal(spec: SegmentSpec, refuses: Collection[str]) -> str:
    """Why this node must not load the segment; empty when it may."""
    for stage in spec.stages:
        if PICKLE in refuses and (serializer := _pickled_by(stage)):
            return (
                f"stage {stage.name}: this node refuses pickles (--refuse pickle), and its model is written by "
                f"{serializer}, which runs code when it is read: convert it to ONNX, or run the stage elsewhere"
            )
    return ""


def _pickled_by(stage: StageSpec) -> str:
    if FRAMEWORK_ALIASES.get(stage.framework, stage.framework) != "sklearn":
        return ""
    serializer = str(stage.options.get("serializer") or _PICKLED[0])
    return serializer if serializer in _PICKLED else ""
