"""JSON Schemas of records, answers and tensors, from what the model says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from fogline.runtimes.frameworks.signature import Declared, Signature
from fogline.runtimes.serving.inference import UNNAMED
from fogline.runtimes.serving.tensors import BYTES, DATATYPES

Schema = dict[str, Any]
_FLOATS = {"FP16": math.nextafter(65520.0, 0), "FP32": math.nextafter(3.4028235677973366e38, 0)}
"""The largest numbers that still round to one that is finite; of `FP64`, JSON itself has no larger ones."""


def record(signature: Signature | None) -> Schema:
    """Of one record of `/predict`."""
    if signature is None:
        return {"description": "any JSON: the pipeline's code reads it"}
    parts = {each.name or UNNAMED: _nested(_value(each.datatype), each.shape) for each in signature.inputs}
    if signature.only_object:
        return _object(parts)
    whole = next(iter(parts.values()))
    if not signature.fields:
        return whole
    number = _value(signature.inputs[0].datatype)
    return {"anyOf": [whole, _object(dict.fromkeys(signature.fields, number))]}


def example(signature: Signature | None) -> Any:
    """A record to begin with."""
    if signature is None:
        return {}
    if signature.fields:
        return dict.fromkeys(signature.fields, 0)
    parts = {each.name: _zeros(each.shape, "" if each.datatype == BYTES else 0) for each in signature.inputs}
    return parts if signature.only_object else next(iter(parts.values()))


def answer(outputs: Sequence[Declared]) -> Schema:
    """Of what comes of one record; anything where the model does not say."""
    parts = {each.name: _nested(_value(each.datatype), each.shape) for each in outputs}
    if len(parts) == 1:
        return next(iter(parts.values()))
    return _object(parts) if parts else {}


def request(signature: Signature | None, *, code: bool) -> Schema:
    """Of `infer`, with one record."""
    if code:
        text = {"type": "string", "contentMediaType": "application/json"}
        given = [_tensor(const(UNNAMED), [1], {"enum": [BYTES]}, text)]
    elif signature is None:
        given = [_tensor({"type": "string"}, [1], {"enum": list(DATATYPES)}, {})]
    else:
        given = [_declared(each) for each in signature.inputs]
    inputs = {"type": "array", "prefixItems": given, "minItems": len(given), "maxItems": len(given)}
    return _object({"inputs": inputs}) | {
        "description": "row i of every tensor is record i; shape and data are shown for one record"
    }


def response() -> Schema:
    """Of `infer`."""
    shape = {"type": "array", "items": {"type": "integer", "minimum": 1}}
    tensor = _object({"name": {"type": "string"}, "shape": shape, "datatype": {"enum": list(DATATYPES)}})
    tensor["properties"]["data"] = {"type": "array"}
    outputs = {"type": "array", "items": tensor}
    document = _object({"model_name": {"type": "string"}, "outputs": outputs})
    document["properties"] |= {"model_version": {"type": "string"}, "id": {"type": "string"}}
    return document


def const(word: str) -> Schema:
    """This string."""
    return {"type": "string", "enum": [word]}


def _declared(tensor: Declared) -> Schema:
    name = const(tensor.name) if tensor.name else {"type": "string"}
    return _tensor(name, [1, *tensor.shape], {"enum": [tensor.datatype]}, _element(tensor.datatype))


def _tensor(name: Schema, shape: Sequence[int], datatype: Schema, value: Schema) -> Schema:
    sizes = [{"type": "integer", "enum": [size]} if size >= 0 else {"type": "integer", "minimum": 1} for size in shape]
    fixed = -1 not in shape
    data: Schema = {"type": "array", "items": value}
    if fixed:
        count = 1
        for size in shape:
            count *= size
        data |= {"minItems": count, "maxItems": count}
    sized = {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}
    return _object({"name": name, "shape": sized, "datatype": datatype, "data": data})


def _element(datatype: str) -> Schema:
    """Of a tensor, where true is no number."""
    return _value(datatype) if datatype in {BYTES, "BOOL"} else _number(datatype)


def _value(datatype: str) -> Schema:
    """Of a number, true and false are 1 and 0."""
    if datatype == BYTES:
        return {"type": "string"}
    if datatype == "BOOL":
        return {"type": "boolean"}
    return {"anyOf": [_number(datatype), {"type": "boolean"}]}


def _number(datatype: str) -> Schema:
    if datatype == "FP64":
        return {"type": "number"}
    if datatype in _FLOATS:
        return {"type": "number", "minimum": -_FLOATS[datatype], "maximum": _FLOATS[datatype]}
    bits = int(datatype.lstrip("UINT"))
    low, high = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return {"type": "integer", "minimum": low, "maximum": high}


def _nested(value: Schema, shape: Iterable[int]) -> Schema:
    for size in reversed(tuple(shape)):
        value = {"type": "array", "items": value} | (
            {"minItems": size, "maxItems": size} if size >= 0 else {"minItems": 1}
        )
    return value


def _zeros(shape: Iterable[int], value: Any) -> Any:
    for size in reversed(tuple(shape)):
        value = [value] * max(1, size)
    return value


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}
