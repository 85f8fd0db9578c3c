"""What a model says of its records: as it is loaded in numpy's words, to callers in the Open Inference Protocol's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output as the model itself describes it."""

    name: str
    """Empty: the model has none for it."""
    datatype: str
    """In numpy's words: `float32`, `int64`, `bool`; `object` for strings; empty: it is no tensor."""
    shape: tuple[int | None, ...]
    """Of one record; None: any size."""


@dataclass(frozen=True)
class Declared:
    """The same for callers."""

    name: str
    """Empty: the model has none for it."""
    datatype: str
    """In the words of the Open Inference Protocol: `FP32`, `INT64`, `BYTES`, ..."""
    shape: tuple[int, ...]
    """Of one record; -1: any size."""


@dataclass(frozen=True)
class Signature:
    """What a stage reads and answers, for those who call it."""

    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...] = ()
    """Empty: known only from an answer."""
    fields: tuple[str, ...] = ()
    """A record may be an object that has the numbers of the only input under these names."""
    only_object: bool = False
    """A record must be an object, the inputs its fields; else, with one input, a record may be that input alone."""


_DATATYPES = {"object": "BYTES", "float16": "FP16", "float32": "FP32", "float64": "FP64"}
"""Of the others the name itself in capitals."""


def signature(
    options: Mapping[str, Any], inputs: Iterable[Tensor], outputs: Sequence[Tensor], fields: Sequence[str] = ()
) -> Signature:
    """What a model says of itself becomes this under the options `input` and `output`.

    `fields`: what the model calls the numbers of its only input, where it has names for them.
    """
    wish, reads = options.get("input"), tuple(map(_declared, inputs))
    known = not options.get("output") and all(each.datatype for each in outputs)
    answers = tuple(map(_declared, outputs)) if known else ()
    if isinstance(wish, str) and len(reads) == 1:
        return Signature((Declared(wish, reads[0].datatype, reads[0].shape),), answers, (), True)
    if isinstance(wish, list | tuple) and len(reads) == 1:
        return Signature(tuple(Declared(name, reads[0].datatype, ()) for name in wish), answers, (), True)
    if isinstance(wish, list | tuple) and len(reads) == len(wish):
        renamed = (Declared(name, each.datatype, each.shape) for name, each in zip(wish, reads, strict=True))
        return Signature(tuple(renamed), answers, (), True)
    return Signature(reads, answers, tuple(fields), len(reads) > 1 or bool(options.get("output")))


def _declared(tensor: Tensor) -> Declared:
    shape = tuple(-1 if size is None else size for size in tensor.shape)
    return Declared(tensor.name, _DATATYPES.get(tensor.datatype, tensor.datatype.upper()), shape)
