"""From JSON rows to one numpy array, without numpy's silent conversions.

Left to itself numpy reads `"1.5"` as a number, `null` as NaN and 1.7 as the integer 1. Here each of them
is a bad message. Imported by model plugins only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fogline.runtimes.errors import BadMessage
from fogline.runtimes.frameworks.signature import Tensor

_KINDS = {"f": "a number", "i": "a whole number", "u": "a whole number", "b": "true or false", "O": "a string"}
_ACCEPTED = {"f": "fiub", "i": "fiub", "u": "fiub", "b": "b", "O": "U"}


@dataclass(frozen=True)
class Column:
    """One input of a model: its name, the type it wants, and the shape of one row (None: any size)."""

    name: str
    dtype: Any
    shape: tuple[int | None, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Column:
        """The column of an input as a model describes it."""
        return cls(tensor.name, np.dtype(tensor.datatype), tensor.shape)

    def stack(self, rows: Sequence[Any]) -> Any:
        """The rows as one array of shape (len(rows), *shape).

        Raises BadMessage when any row does not fit; the caller then looks for it one by one.
        """
        try:
            found = np.asarray(rows)
        except (ValueError, OverflowError):
            raise self._wrong("rows of different shapes") from None
        kind = np.dtype(self.dtype).kind
        if found.dtype.kind not in _ACCEPTED[kind]:
            raise self._wrong(f"{_described(rows)}")
        if found.shape[1:] == () and self.shape in ((1,), (None,)):
            found = found.reshape(len(rows), 1)
        if len(found.shape) == len(self.shape) + 2 and found.shape[1] == 1:
            found = found[:, 0]  # the record is a tensor of the model's whole input shape, batch of one
        if not self._fits(found.shape[1:]):
            raise self._wrong(f"shape {list(found.shape[1:])}")
        return self._converted(found)

    def _converted(self, found: Any) -> Any:
        if self.dtype == object:
            return found.astype(object)
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = np.ascontiguousarray(found, dtype=self.dtype)
        if wanted.dtype.kind == "f" and not np.isfinite(wanted).all():
            raise self._wrong(f"a number that {wanted.dtype} cannot hold")
        if wanted.dtype.kind in "iu" and found.dtype.kind != wanted.dtype.kind and not (wanted == found).all():
            raise self._wrong("a number that is not whole or too large")
        return wanted

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.shape) and all(
            wanted is None or wanted == size for wanted, size in zip(self.shape, shape, strict=True)
        )

    def _wrong(self, found: str) -> BadMessage:
        kind = _KINDS[np.dtype(self.dtype).kind]
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        expected = f"{kind} each, shape [{sizes}]" if self.shape else kind
        return BadMessage(f"input {self.name!r}: expected {expected}, got {found}")


def _described(rows: Sequence[Any]) -> str:
    if len(rows) > 1:
        return "rows of mixed types"
    text = repr(rows[0])
    return text if len(text) <= 80 else f"{text[:80]}..."
