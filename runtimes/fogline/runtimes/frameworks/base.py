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
from fogline.runtimes.progress import Progress
from fogline.runtimes.spec import StageSpec


@dataclass(frozen=True, slots=True)
class Failed:
    """This record's place in the results, when there is no result."""

    error: BaseException


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model, without the dimension of the records."""

    name: str
    """Empty: the model has none for it."""
    datatype: str
    """In the words of the Open Inference Protocol: `FP32`, `INT64`, `BYTES`, ..."""
    shape: tuple[int, ...]
    """Of one record; -1: any size."""


@dataclass(frozen=True)
class Signature:
    """What a model says of the records it reads and of its answers."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    """Empty: known only from an answer."""
    fields: tuple[str, ...] = ()
    """A record may be an object that has the numbers of the only input under these names."""
    only_object: bool = False
    """A record must be an object, the inputs its fields; else, with one input, a record may be that input alone."""


Result = list[Any] | Failed
"""The records that follow from one record (none: it was filtered), or why there are none."""


class Framework(ABC):
    """One stage's model or code. `process` is called from one thread, the pump's."""

    def __init__(self, stage: StageSpec, artifacts: Path) -> None:
        self.stage = stage
        self.artifacts = artifacts
        self.progress = Progress()
        """The segment says when user code is entered and left; a framework that hands over one by one ticks."""

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

    def signature(self) -> Signature | None:
        """What the loaded model says of its records, for those who call it. None: any JSON may be a record."""
        return None

    def unusable(self, reason: str, trace: str = "") -> StageUnusable:
        """An error that names this stage."""
        return StageUnusable(self.stage.name, reason, trace)
