"""`props` against the option tables that connectors and frameworks read themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fogline.coordinator.padl.problems import Problem, error, near_miss, not_this, pointer_to, quoted
from fogline.runtimes.options import Option
from fogline.wire.terms import NAME

_PHRASES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "names": "a name or a list of names",
    "object": "an object",
    "secret": 'the name of a secret, {"secret": NAME}',
    "tls": 'an object of "ca", "cert" and "key", each a PEM file on the node or {"secret": NAME}',
}
_QOS_2 = "QoS 2 with manual acknowledgement loses messages over a restart: use 1"
_REASONS: dict[tuple[str, str | int], str] = {("qos", 2): _QOS_2}
"""(option, value) -> why this value, known to the protocol, is refused."""


_TLS_PARTS = {"ca", "cert", "key"}


def is_secret(value: Any) -> bool:
    """True for `{"secret": NAME}`, which stands for a value of any kind."""
    return isinstance(value, dict) and set(value) == {"secret"}


def prop_problems(table: tuple[Option, ...], props: Mapping[str, Any], place: str, owner: str) -> Iterator[Problem]:
    """What is wrong with `props`, found at pointer `place`; `owner` names the plugin (`connector 'mqtt'`)."""
    known = {option.name: option for option in table}
    for name, value in props.items():
        pointer = place + pointer_to(name)
        option = known.get(name)
        if option is None:
            message = f"{quoted(name)} is not an option of {owner}{near_miss(name, known)}"
            yield error(pointer, message, f"known options: {', '.join(sorted(known))}")
        elif not _fits(option, value) and (option.kind == "secret" or not is_secret(value)):
            yield _misfit(option, value, pointer)
    for option in table:
        if option.required and option.name not in props:
            message = f"{owner} needs the option {option.name!r}"
            yield error(place, message, f'add "{option.name}" to props: {option.sentence}')


def phrase(option: Option) -> str:
    """What a value of this option must be, for the end of `must be …`."""
    if option.choices:
        return " or ".join(repr(each) for each in option.choices)
    bounds = ""
    if option.minimum is not None and option.maximum is not None:
        bounds = f" between {option.minimum} and {option.maximum}"
    elif option.minimum is not None:
        bounds = f" of at least {option.minimum}"
    elif option.maximum is not None:
        bounds = f" of at most {option.maximum}"
    return (
        _PHRASES[option.kind] + bounds + (" that is not empty" if option.required and option.kind == "string" else "")
    )


def _misfit(option: Option, value: Any, pointer: str) -> Problem:
    if isinstance(value, (str, int)) and (reason := _REASONS.get((option.name, value))):
        return error(pointer, reason, f'"{option.name}": {option.default}')
    suggestion = near_miss(value, [str(each) for each in option.choices]) if isinstance(value, str) else ""
    hint = suggestion.removeprefix("; ") or option.sentence
    return error(pointer, f"{option.name} must be {phrase(option)}{not_this(value, pointer)}", hint)


def _fits(option: Option, value: Any) -> bool:
    if not _is_of_kind(option.kind, value):
        return False
    if option.choices and value not in option.choices:
        return False
    if option.required and value == "":
        return False
    return (option.minimum is None or value >= option.minimum) and (option.maximum is None or value <= option.maximum)


def _is_of_kind(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "object":
            return isinstance(value, dict)
        case "tls":
            parts = value.items() if isinstance(value, dict) else [("", "")]
            return all(key in _TLS_PARTS and _is_file(each) for key, each in parts)
        case "secret":
            return is_secret(value) and isinstance(value["secret"], str) and bool(NAME.fullmatch(value["secret"]))
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(each, str) and each for each in names)


def _is_file(value: Any) -> bool:
    return _is_of_kind("secret", value) or (isinstance(value, str) and value.startswith("/"))
