"""What most callers of `infer` send and get: one record of numbers in a flat list, answers that are single values.

The same as the general way, in a third of its time; whatever is different in any way takes the general one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fogline.runtimes.frameworks.signature import Signature

_FLOATS = ("FP64", "FP32", "FP16")
_NUMBERS = {int, float}
_KEYS = {"name", "shape", "datatype", "data"}


class SingleRecord:
    """Reads the one record that a model of one input may get."""

    def __init__(self, signature: Signature | None) -> None:
        self._size = 0
        """Of the record; 0: the model reads something else."""
        if signature is not None and len(signature.inputs) == 1:
            (only,) = signature.inputs
            if only.datatype in _FLOATS and len(only.shape) == 1 and not signature.fields:
                self._name, self._named, self._size = only.name, signature.only_object, only.shape[0]

    def payload(self, given: Any) -> bytes | None:
        """The encoded record of the list `inputs`; None: it is not the usual one."""
        if self._size <= 0 or type(given) is not list or len(given) != 1:
            return None
        tensor = given[0]
        if type(tensor) is not dict or tensor.keys() != _KEYS:
            return None
        shape, data = tensor["shape"], tensor["data"]
        if shape != [1, self._size] or type(data) is not list or len(data) != self._size:
            return None
        if tensor["datatype"] not in _FLOATS or not {*map(type, data)} <= _NUMBERS or {*map(type, shape)} != {int}:
            return None
        if tensor["name"] != self._name and (self._name or type(tensor["name"]) is not str):
            return None
        return orjson.dumps({self._name: data} if self._named else data)


class SingleValues:
    """Writes answers that are one value each, as the model has declared."""

    def __init__(self, signature: Signature | None) -> None:
        outputs = signature.outputs if signature is not None else ()
        self._tail = b""
        """Empty: answers are something else."""
        if len(outputs) == 1 and not outputs[0].shape:
            name, datatype = orjson.dumps(outputs[0].name), orjson.dumps(outputs[0].datatype)
            self._head = b',"outputs":[{"name":%b,"shape":[' % name
            self._tail = b'],"datatype":%b,"data":[' % datatype

    def body(self, results: Sequence[Sequence[bytes]], named: Mapping[str, str]) -> bytes | None:
        """The whole document; None: it is not the usual one."""
        if not self._tail or any(len(each) != 1 for each in results):
            return None
        values = b",".join([each[0] for each in results])
        return b"".join((orjson.dumps(named)[:-1], self._head, b"%d" % len(results), self._tail, values, b"]}]}"))
