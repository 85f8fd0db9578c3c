"""The Open Inference Protocol's `infer`: tensors of a request to records, answers to tensors of a response.

Row i of every tensor is record i. A code stage reads one `BYTES` tensor of JSON, a record each, and answers with one:
`null` where it filtered, a list where it made several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from fogline.runtimes.errors import Failure
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.frameworks.signature import Signature
from fogline.runtimes.options import FRAMEWORK_ALIASES
from fogline.runtimes.serving.chain import Answer
from fogline.runtimes.serving.refusals import bad_request, of_record
from fogline.runtimes.serving.single import SingleRecord, SingleValues
from fogline.runtimes.serving.tensors import (
    BYTES,
    DATATYPES,
    Values,
    described,
    from_binary,
    from_json,
    shape_of,
    to_binary,
)

UNNAMED, ANSWER = "input", "output"
"""What tensors are called where the model has no name for them."""


class Inference(NamedTuple):
    """One request: the records, and how its answer is to look."""

    payloads: list[bytes]
    id: str
    outputs: tuple[tuple[str, bool], ...]
    """Those asked for, and whether in binary; empty: all."""
    binary: bool
    """Of the outputs that are not asked for one by one."""


def is_code(framework: Framework) -> bool:
    """Whether its records may be anything."""
    return FRAMEWORK_ALIASES.get(framework.stage.framework, framework.stage.framework) == "code"


class Reader:
    """Of requests to a chain that begins with this framework."""

    def __init__(self, first: Framework) -> None:
        self._code = is_code(first)
        self._signature = first.signature()
        self._single = SingleRecord(self._signature)

    def read(self, body: bytes, json_length: int | None) -> Inference:
        """`json_length`: bytes of JSON in front of the binary data; None: there is no such data. Raises Refusal."""
        head, data = (body, b"") if json_length is None else (body[:json_length], body[json_length:])
        if json_length is not None and not 0 <= json_length <= len(body):
            raise bad_request(f"Inference-Header-Content-Length is {json_length}, the body has {len(body)} bytes")
        document = _document(head)
        if not data and document.keys() == {"inputs"}:
            payload = self._single.payload(document["inputs"])
            if payload is not None:
                return Inference([payload], "", (), False)
        given = _inputs(document, data)
        _check_rows(given)
        payloads, parameters = self._payloads(given), _object(document, "parameters")
        ident = document.get("id", "")
        if not isinstance(ident, str):
            raise bad_request("id must be a string")
        return Inference(payloads, ident, _wanted(document), parameters.get("binary_data_output") is True)

    def _payloads(self, given: Sequence[Values]) -> list[bytes]:
        if self._code:
            return _jsons(given)
        return [orjson.dumps(record) for record in self._records(given)]

    def _records(self, given: Sequence[Values]) -> Sequence[Any]:
        signature = self._signature
        if signature is None:
            return given[0].rows() if len(given) == 1 else _objects(given, frozenset())
        names = [each.name for each in given]
        if _is_whole(signature, names):
            return given[0].rows()
        known = signature.fields if set(names) <= set(signature.fields) else [each.name for each in signature.inputs]
        wrong = sorted(set(names) - set(known)) or sorted(set(known) - set(names))
        if wrong or len(names) != len(known):
            there = ", ".join(repr(name or UNNAMED) for name in known)
            what = f"input {wrong[0]!r} is " + ("missing" if wrong[0] in known else "unknown") if wrong else "twice"
            raise bad_request(f"{what}: the model reads {there}, each as one tensor")
        scalars = {each.name for each in signature.inputs if not each.shape} | set(signature.fields)
        return _objects(given, scalars)


def _is_whole(signature: Signature, names: Sequence[str]) -> bool:
    """Whether the only tensor is the only input. A model without a name for it takes any."""
    if signature.only_object or len(signature.inputs) != 1 or len(names) != 1:
        return False
    own = signature.inputs[0].name
    return names[0] == own or (not own and names[0] not in signature.fields)


def _objects(given: Sequence[Values], scalars: frozenset[str] | set[str]) -> list[dict[str, Any]]:
    columns = []
    for each in given:
        rows = each.rows()
        columns.append([row[0] for row in rows] if each.name in scalars and each.shape[1:] == (1,) else rows)
    names = [each.name for each in given]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _jsons(given: Sequence[Values]) -> list[bytes]:
    tensor = given[0]
    if len(given) != 1 or tensor.datatype != BYTES or tensor.shape[1:] not in {(), (1,)}:
        raise bad_request("this model reads one tensor of BYTES, shape [n] or [n, 1]: a record in JSON each")
    return [each.encode() for each in tensor.flat]


def _document(head: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the request is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise bad_request("the request must be an object with the list inputs")
    return document


def _inputs(document: Mapping[str, Any], data: bytes) -> list[Values]:
    given = document.get("inputs")
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise bad_request("inputs must be a list of tensors, each with name, shape, datatype and data")
    tensors, place = [], 0
    for each in given:
        tensor, size = _tensor(each, data[place:])
        tensors.append(tensor)
        place += size
    if place != len(data):
        raise bad_request(f"{len(data) - place} bytes of binary data belong to no input")
    return tensors


def _tensor(given: Mapping[str, Any], data: bytes) -> tuple[Values, int]:
    """The tensor and how many bytes of the data are its own."""
    name, datatype = given.get("name"), given.get("datatype")
    if not isinstance(name, str):
        raise bad_request("each input needs a name, a string")
    if datatype not in DATATYPES:
        raise bad_request(f"input {name!r}: datatype must be one of {', '.join(DATATYPES)}")
    shape = shape_of(name, given.get("shape"))
    size = _object(given, "parameters").get("binary_data_size")
    if size is None:
        return from_json(name, str(datatype), shape, given.get("data")), 0
    if type(size) is not int or not 0 <= size <= len(data):
        raise bad_request(f"input {name!r}: binary_data_size is {size}, {len(data)} bytes are left for it")
    return from_binary(name, str(datatype), shape, data[:size]), size


def _check_rows(given: Sequence[Values]) -> None:
    if len({each.shape[0] for each in given}) > 1:
        sizes = ", ".join(f"{each.name!r}: {each.shape[0]}" for each in given)
        raise bad_request(f"row i of every input is record i, but the inputs have different numbers of rows: {sizes}")


def _wanted(document: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    outputs = document.get("outputs")
    if outputs is None:
        return ()
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise bad_request("outputs must be a list of objects, each with a name")
    wanted = []
    binary = _object(document, "parameters").get("binary_data_output") is True
    for each in outputs:
        parameters = _object(each, "parameters")
        if not isinstance(each.get("name"), str):
            raise bad_request("each of outputs needs a name, a string")
        if parameters.get("classification"):
            raise bad_request(f"output {each['name']!r}: classification is not offered here")
        wanted.append((each["name"], parameters.get("binary_data", binary) is True))
    return tuple(wanted)


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise bad_request(f"{key} must be an object")
    return found


class Writer:
    """Of responses of a chain that ends with this framework; None: that ends elsewhere."""

    def __init__(self, last: Framework | None) -> None:
        self._code = last is not None and is_code(last)
        signature = last.signature() if last is not None else None
        self._single = SingleValues(signature)
        self._declared = {each.name: each for each in signature.outputs} if signature is not None else {}

    def write(self, request: Inference, answers: Sequence[Answer], named: Mapping[str, str]) -> tuple[bytes, int]:
        """The body, and how much of it is JSON; all of it when nothing is binary. `named`: name and version of the
        model. Raises Refusal for the first record that failed."""
        results = _results(answers)
        if not request.outputs and not request.binary:
            body = self._single.body(results, {**named, "id": request.id} if request.id else named)
            if body is not None:
                return body, len(body)
        tensors = self._tensors(results)
        asked = request.outputs or tuple((name, request.binary) for name in tensors)
        outputs, data = [], []
        for name, binary in asked:
            if name not in tensors:
                raise bad_request(f"there is no output {name!r}: the model answers with {', '.join(tensors)}")
            tensor = tensors[name]
            output: dict[str, Any] = {"name": name, "shape": tensor.shape, "datatype": tensor.datatype}
            if binary:
                data.append(to_binary(tensor))
                output["parameters"] = {"binary_data_size": len(data[-1])}
            else:
                output["data"] = tensor.flat
            outputs.append(output)
        identity = {"id": request.id} if request.id else {}
        head = orjson.dumps({**named, **identity, "outputs": outputs})
        return b"".join((head, *data)), len(head)

    def _tensors(self, results: Sequence[Sequence[bytes]]) -> dict[str, Values]:
        if not self._code and all(len(each) == 1 for each in results):
            rows = [orjson.loads(each[0]) for each in results]
            found = self._typed(rows)
            if found is not None:
                return found
        jsons = [each[0] if len(each) == 1 else _listed(each) for each in results]
        return {ANSWER: Values(ANSWER, BYTES, (len(jsons),), [each.decode() for each in jsons])}

    def _typed(self, rows: Sequence[Any]) -> dict[str, Values] | None:
        """A tensor each of the fields of objects, or one of the answers themselves."""
        first = rows[0]
        if isinstance(first, dict):
            if not first or not all(isinstance(row, dict) and row.keys() == first.keys() for row in rows):
                return None
            columns = {name: [row[name] for row in rows] for name in first}
        else:
            columns = {next(iter(self._declared), ANSWER): list(rows)}
        tensors = {}
        for name, column in columns.items():
            declared = self._declared.get(name)
            tensor = described(name, column, declared.datatype if declared is not None else "")
            if tensor is None:
                return None
            tensors[name] = tensor
        return tensors


def _listed(results: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(results) + b"]" if results else b"null"


def _results(answers: Sequence[Answer]) -> list[list[bytes]]:
    results = []
    for place, answer in enumerate(answers):
        if isinstance(answer, Failure):
            raise of_record(answer, place if len(answers) > 1 else None)
        results.append(answer)
    return results
