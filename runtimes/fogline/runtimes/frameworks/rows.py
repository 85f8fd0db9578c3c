"""What a model reads from a record, and where its answer goes: one table for every model framework.

======================  ============================================  ==============================
`input` option          record                                        the model's row
======================  ============================================  ==============================
absent                  a number, a list, a nested list, a string     the record
absent                  an object, and the model names its inputs     the fields of these names
`"x"`                   an object                                     its field x
`["a", "b"]`            an object                                     the fields in this order
======================  ============================================  ==============================

With `output` absent the answer alone is the next record; with `output: "score"` it is the record with
the answer added under that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fogline.runtimes.errors import BadMessage
from fogline.runtimes.frameworks.base import Failed, Result, Signature, Tensor

Reader = Callable[[Any], Any]


def reader(wish: str | Sequence[str] | None, names: Sequence[str]) -> Reader:
    """The function from record to row; several names make a list. It raises BadMessage.

    `names` are the inputs or features the model itself knows by name; none: it knows no names.
    """
    if isinstance(wish, str):
        return lambda record: _field(record, wish)
    if wish:
        return lambda record: [_field(record, name) for name in wish]
    if not names:
        return _whole
    if len(names) == 1:
        only = names[0]
        return lambda record: _field(record, only) if isinstance(record, dict) else record
    return lambda record: [_field(record, name) for name in names] if isinstance(record, dict) else record


def signature(
    options: Mapping[str, Any], inputs: Sequence[Tensor], outputs: Sequence[Tensor], fields: Sequence[str] = ()
) -> Signature:
    """What a model's own signature becomes under the options `input` and `output`.

    `fields`: what the model calls the numbers of its only input, where it has names for them.
    """
    wish = options.get("input")
    answers = () if options.get("output") else tuple(outputs)
    if isinstance(wish, str) and len(inputs) == 1:
        return Signature((Tensor(wish, inputs[0].datatype, inputs[0].shape),), answers, (), True)
    if isinstance(wish, list | tuple) and len(inputs) == 1:
        return Signature(tuple(Tensor(name, inputs[0].datatype, ()) for name in wish), answers, (), True)
    if isinstance(wish, list | tuple) and len(inputs) == len(wish):
        renamed = (Tensor(name, each.datatype, each.shape) for name, each in zip(wish, inputs, strict=True))
        return Signature(tuple(renamed), answers, (), True)
    return Signature(tuple(inputs), answers, tuple(fields), len(inputs) > 1 or bool(options.get("output")))


def place(records: Sequence[Any], answers: Sequence[Any], output: str | None) -> list[Result]:
    """The next records: the answers, or the records with the answers added. A Failed stays as it is."""
    if output is None:
        return [each if isinstance(each, Failed) else [each] for each in answers]
    return [_added(record, each, output) for record, each in zip(records, answers, strict=True)]


def in_chunks(records: Sequence[Any], read: Reader, run: Callable[[list[Any]], list[Any]], size: int) -> list[Any]:
    """Answers per record. A record whose row cannot be read fails alone; the others run in chunks."""
    answers: list[Any] = [None] * len(records)
    rows: list[Any] = []
    places: list[int] = []
    for index, record in enumerate(records):
        try:
            rows.append(read(record))
            places.append(index)
        except BadMessage as error:
            answers[index] = Failed(error)
    for start in range(0, len(rows), size):
        chunk = run(rows[start : start + size])
        for index, answer in zip(places[start : start + size], chunk, strict=True):
            answers[index] = answer
    return answers


def _added(record: Any, answer: Any, output: str) -> Result:
    if isinstance(answer, Failed):
        return answer
    if not isinstance(record, dict):
        return Failed(BadMessage(f"output {output!r} needs an object to add to, the record is {_kind(record)}"))
    record[output] = answer
    return [record]


def _whole(record: Any) -> Any:
    if isinstance(record, dict):
        raise BadMessage("the record is an object, but the model has no input names: set props.input to its fields")
    return record


def _field(record: Any, name: str) -> Any:
    if not isinstance(record, dict):
        raise BadMessage(f"input {name!r}: expected an object with this field, the record is {_kind(record)}")
    if name not in record:
        raise BadMessage(f"input {name!r} is missing; the record has {', '.join(map(repr, record)) or 'no fields'}")
    return record[name]


def _kind(record: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "true or false"}
    return names.get(type(record), "a number")
