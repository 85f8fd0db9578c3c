"""What the model refuses, in sentences for the person who wrote the document."""

from __future__ import annotations

import json
import types
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.problems import Problem, error, near_miss, not_this, pointer_to, quoted

Keys = tuple[str | int, ...]

_EXPECTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "a list",
}
_MAPS = {"pipeline": "stage", "queues": "queue", "infra": "machine"}


def problems_of(failure: ValidationError) -> list[Problem]:
    """One problem per refusal."""
    return [_problem(detail) for detail in failure.errors(include_url=False)]


def correction(keys: Keys) -> str | None:
    """For an unknown key the known one it most likely stands for, else empty; None when the key is known."""
    known = _known_keys(keys[:-1])
    if not keys or not known or keys[-1] in known:
        return None
    return near_miss(str(keys[-1]), known).partition("'")[2].rpartition("'")[0]


def _problem(detail: ErrorDetails) -> Problem:
    keys = detail["loc"]
    pointer = pointer_to(*keys)
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(keys, pointer)
    if kind == "missing":
        return _missing_key(keys, pointer)
    expected = _expected(detail)
    return error(
        pointer,
        f"{_name(keys)} must be {expected}{not_this(detail['input'], pointer)}",
        _hint(detail, pointer),
    )


def _unknown_key(keys: Keys, pointer: str) -> Problem:
    known = _known_keys(keys[:-1])
    name = str(keys[-1])
    message = f"{quoted(name)} is not a key of {_holder(keys[:-1])}{near_miss(name, known)}"
    return error(pointer, message, f"known keys: {', '.join(sorted(known))}")


def _missing_key(keys: Keys, pointer: str) -> Problem:
    name = str(keys[-1])
    field = _known_keys(keys[:-1]).get(name)
    hint = f"add {json.dumps(name)}"
    if field is not None and field.description:
        hint += f": {field.description}"
    return error(pointer, f"{name!r} is missing from {_name(keys[:-1])}", hint)


def _expected(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "expected":
        return str(context["phrase"])
    if kind == "literal_error":
        return str(context["expected"])
    return _EXPECTED.get(kind) or detail["msg"].removeprefix("Input should be ")


def _hint(detail: ErrorDetails, pointer: str) -> str:
    value = detail["input"]
    shown = not_this(value, pointer)
    if detail["type"] == "literal_error" and isinstance(value, str):
        choices = [each.strip().strip("'") for each in _expected(detail).replace(" or ", ", ").split(",")]
        return near_miss(value, choices).removeprefix("; ")
    if detail["type"] == "string_type" and isinstance(value, (bool, int, float)) and shown:
        return f"write {json.dumps(json.dumps(value))}, in quotes"
    if value is None:
        return "leave the key out instead"
    return ""


def _known_keys(keys: Keys) -> dict[str, FieldInfo]:
    """The keys the model knows at this place; empty where any key may stand."""
    here: Any = Document
    for key in keys:
        here = _below(here, key)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return {}
    return {field.alias or name: field for name, field in here.model_fields.items()}


def _below(here: Any, key: str | int) -> Any:
    """The annotation of a member: of a model its field's, of a map its values'; None below a plain value."""
    if isinstance(here, type) and issubclass(here, BaseModel):
        known = {field.alias or name: field.annotation for name, field in here.model_fields.items()}
        return _without_none(known.get(str(key)))
    return get_args(here)[-1] if get_origin(here) is dict and get_args(here) else None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [each for each in get_args(annotation) if each is not types.NoneType]
        return rest[0] if len(rest) == 1 else None
    return annotation


def _name(keys: Keys) -> str:
    """The value at this place, in a sentence about it."""
    if not keys:
        return "the document"
    if len(keys) == 2 and keys[0] in _MAPS:
        return f"{_MAPS[str(keys[0])]} {quoted(str(keys[1]))}"
    if isinstance(keys[-1], int):
        return f"item {keys[-1] + 1} of {keys[-2]}"
    return str(keys[-1])


def _holder(keys: Keys) -> str:
    """The object at this place, in a sentence about its keys."""
    if not keys:
        return "the document"
    if len(keys) == 2 and keys[0] in _MAPS:
        return f"a {_MAPS[str(keys[0])]}"
    return repr(str(keys[-1]))
