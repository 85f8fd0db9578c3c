"""The framework contract: how a model or a code block becomes a stage.

A framework is made from its stage's spec, loaded once, then handed batches. It never retries, never
encodes and knows nothing of queues: the segment does that for all of them alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.runtimes.errors import StageUnusable
from fogline.runtimes.frameworks.signature import Signature, Tensor, signature
from fogline.runtimes.frameworks.signs import mistaken
from fogline.runtimes.progress import Progress
from fogline.runtimes.spec import StageSpec


@dataclass(frozen=True, slots=True)
class Failed:
    """This record's place in the results, when there is no result."""

    error: BaseException


Result = list[Any] | Failed
"""The records that follow from one record (none: it was filtered), or why there are none."""


class Framework(ABC):
    """One stage's model or code. `process` is called from one thread, the pump's."""

    def __init__(self, stage: StageSpec, artifacts: Path) -> None:
        self.stage = stage
        self.artifacts = artifacts
        self.progress = Progress()
        """The segment says when user code is entered and left; a framework that hands over one by one ticks."""
        self.inputs: tuple[Tensor, ...] = ()
        """After `load`: what the model says that it reads. Empty where it carries no schema, and for code."""
        self.outputs: tuple[Tensor, ...] = ()
        """After `load`: what the model says that it answers."""

    @property
    def path(self) -> Path:
        """Where the bundle's folder or the model's file lies on this machine."""
        return Path(self.stage.path) if self.stage.path else self.artifacts / self.stage.artifact

    @abstractmethod
    def load(self) -> None:
        """Import the library, read the model, find the function. Called once, before any queue is bound.

        Raises StageUnusable with one sentence that names the file and the fix.
        """

    @abstractmethod
    def process(self, records: list[Any]) -> list[Result]:
        """One result per record, in order. The records belong to the callee, which may change them.

        What user code or a model raises is caught and returned as Failed, for the record that caused
        it; when a whole batch failed together, for all of it: each is then tried again alone.
        """

    @property
    def model_name(self) -> str:
        """What the model is called in sentences: on a node its file has its digest for a name."""
        return f"the model ({self.path.name[:8]})" if self.stage.artifact else self.path.name

    @property
    def model_file(self) -> Path:
        """`path`, when a file with something in it lies there. Raises StageUnusable."""
        if self.path.is_dir():
            hint = mistaken(self.path, serializer=str(self.stage.options.get("serializer", "")))
            raise self.unusable("; ".join(filter(None, (f"{self.path} is a folder, not a model file", hint))))
        if not self.path.is_file():
            raise self.unusable(f"there is no model file {self.path}")
        if self.path.stat().st_size == 0:
            raise self.unusable(f"the model file {self.path} is empty: save the model again")
        return self.path

    def signature(self) -> Signature | None:
        """What the loaded model says of its records, for those who call it. None: any JSON may be a record."""
        return signature(self.stage.options, self.inputs, self.outputs) if self.inputs else None

    def unusable(self, reason: str, trace: str = "") -> StageUnusable:
        """An error that names this stage."""
        return StageUnusable(self.stage.name, reason, trace)
