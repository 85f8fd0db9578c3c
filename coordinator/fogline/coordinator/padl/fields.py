"""The kinds of value PADL knows, each with the phrase a person is told when a value is of another kind."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([KMGT]?)(i?)B?", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,6})?")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(|ms|s|m|h)")
_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def says(phrase: str) -> WrapValidator:
    """Any refusal of the value inside becomes `must be <phrase>`; the JSON Schema keeps its bounds."""

    def run(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
        try:
            return inner(value)
        except ValidationError:
            raise PydanticCustomError("expected", "{phrase}", {"phrase": phrase}) from None

    return WrapValidator(run)


def bytes_of(amount: int | str | None) -> int | None:
    """Bytes of `1048576`, `"512MB"` (powers of 1000) or `"1 GiB"` (powers of 1024).

    Raises ValueError for anything else.
    """
    if amount is None or isinstance(amount, int):
        return amount
    match = _AMOUNT.fullmatch(amount.strip())
    if match is None:
        raise ValueError(f"{amount!r} is not an amount of bytes")
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[prefix.upper()])


def _positive_amount(amount: int | str) -> int | str:
    if (bytes_of(amount) or 0) < 1:
        raise ValueError("an amount is at least one byte")
    return amount


def _as_names(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(value)
    raise PydanticCustomError("expected", "{phrase}", {"phrase": "a name or a list of names"})


def _as_word(value: Any) -> Any:
    """An integer is its digits; a fraction is not taken, for 1.10 would come back as 1.1."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_number(value: Any) -> Any:
    """PADL 1.0 writes numbers as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value) if value.isdecimal() else float(value)
    return value


def _as_seconds(value: Any) -> Any:
    """`600`, `"600"`, `"600s"`, `"500ms"`, `"10m"` or `"1h"` in seconds."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) * _UNITS[match[2]] if match else value


def _as_version(value: Any) -> Any:
    """YAML reads an unquoted 1.0 as a number."""
    return "1.0" if isinstance(value, (int, float)) and value == 1 and value is not True else value


Amount = Annotated[
    int | str,
    AfterValidator(_positive_amount),
    says("a number of bytes or an amount such as '512MB' or '1GiB'"),
]
Count = Annotated[int, Field(ge=0), says("an integer of at least 0")]
Positive = Annotated[float, Field(gt=0), says("a number above 0")]
Cores = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(_as_number),
    says("a number above 0"),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^[\d.]+$"}]}),
]
Devices = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(_as_number),
    says("an integer of at least 0"),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+$"}]}),
]
Bandwidth = Annotated[int | str, says("a number of bytes per second or a text such as '10GbE'")]
Seconds = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(_as_seconds),
    says("a number of seconds above 0, or a text such as '600s' or '10m'"),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^[\d.]+ ?(ms|s|m|h)?$"}]}
    ),
]
Word = Annotated[
    str,
    BeforeValidator(_as_word),
    WithJsonSchema({"type": ["string", "integer"]}),
]
"""A text, or an integer that stands for its digits."""
NotNegative = Annotated[float, Field(ge=0), says("a number of at least 0")]
BatchSize = Annotated[int, Field(ge=1, le=32767), says("an integer between 1 and 32767")]
"""Twice a batch is the MQTT receive-maximum, a 16-bit number."""
Port = Annotated[int, Field(ge=1, le=65535), says("an integer between 1 and 65535")]
Replicas = Annotated[
    Annotated[int, Field(ge=1)] | Literal["each"],
    says("an integer of at least 1, or 'each' for one copy per node"),
]
Secrets = Annotated[list[Any] | dict[str, Any], says("a list of names or an object")]
Version = Annotated[Literal["1.0"], BeforeValidator(_as_version), WithJsonSchema({"enum": ["1.0", 1]})]
ImagePrefix = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$"),
    says("HOST[:PORT][/PATH] in lower case, such as registry.plant.example/lines"),
]
SecretName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), says("the name of a secret")]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
