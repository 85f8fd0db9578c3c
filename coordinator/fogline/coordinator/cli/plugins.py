"""`coord frameworks` and `coord connectors`: what documents may name, from the tables that everything else reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from fogline.coordinator.cli import output
from fogline.coordinator.cli.options import OutputOption
from fogline.coordinator.padl.props import phrase
from fogline.runtimes import options
from fogline.runtimes.options import Option, Table
from fogline.wire.terms import ErrorKind, FoglineError

NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="Only this one, with its options.")]
Requirements = Mapping[str, tuple[str, ...]]


def frameworks(name: NameArgument = None, output_: OutputOption = output.Output.TABLE) -> None:
    """List what a model stage may run in.

    Each framework with its other names and what its stages need installed; with NAME every option of `props`. Those
    of other packages are listed where coord has them installed. In API mode props of the first stage may also hold
    port, auth and token.

    Example: coord frameworks sklearn
    """
    _show(options.FRAMEWORKS, options.FRAMEWORK_REQUIREMENTS, name, output_)


def connectors(name: NameArgument = None, output_: OutputOption = output.Output.TABLE) -> None:
    """List what a queue may be.

    Each connector with what the stages at its queues need installed; with NAME every option of `props`. Those of
    other packages are listed where coord has them installed.

    Example: coord connectors mqtt
    """
    _show(options.CONNECTORS, options.CONNECTOR_REQUIREMENTS, name, output_)


def _show(
    table: Table[tuple[Option, ...]], requirements: Requirements, name: str | None, output_: output.Output
) -> None:
    wanted = options.FRAMEWORK_ALIASES.get(name or "", name)
    if wanted is not None and wanted not in table:
        known = ", ".join(table)
        raise FoglineError(ErrorKind.NOT_FOUND, f"there is no {table.kind[:-1]} {name!r}; there are: {known}")
    found = [_described(each, table, requirements) for each in ([wanted] if wanted else table)]
    if output_ is output.Output.JSON:
        output.print_json(found[0] if wanted else found)
    elif wanted:
        _print_one(found[0])
    else:
        _print_all(table.kind[:-1].upper(), found)
    for reason in table.refused().values():
        output.say(f"{table.kind[:-1]} {reason}")


def _described(name: str, table: Table[tuple[Option, ...]], requirements: Requirements) -> dict[str, Any]:
    """The stable shape of one of them."""
    choices = {choice for each in table[name] if each.name == "client" for choice in each.choices}
    clients = {each: list(lines) for each, lines in options.CLIENT_REQUIREMENTS.items() if each in choices}
    aliases = [alias for alias, meant in options.FRAMEWORK_ALIASES.items() if meant == name]
    return {
        "name": name,
        "aliases": aliases if table.kind == "frameworks" else [],
        "built_in": name in table.own,
        "requires": list(requirements[name]),
        "client_requires": clients,
        "options": [_option(each) for each in table[name]],
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "type": option.kind,
        "required": option.required,
        "default": option.default,
        "choices": list(option.choices),
        "meaning": option.sentence,
        "must_be": phrase(option),
        "example": option.example,
        "available": option.available,
    }


def _print_all(title: str, found: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            each["name"],
            ", ".join(each["aliases"]) or "-",
            "fogline" if each["built_in"] else "a package",
            ", ".join(option["name"] for option in each["options"] if option["available"]),
            "; ".join(map(_short, each["requires"])) or "nothing",
        )
        for each in found
    ]
    output.print_table([title, "ALSO", "FROM", "OPTIONS", "REQUIRES"], rows)


def _print_one(found: Mapping[str, Any]) -> None:
    also = f" (also {', '.join(found['aliases'])})" if found["aliases"] else ""
    print(f"{found['name']}{also}")
    print("\n".join(f"  requires {each}" for each in found["requires"] or ["nothing"]))
    for client, lines in found["client_requires"].items():
        print(f'  with "client": "{client}" instead: {"; ".join(lines)}')
    for each in found["options"]:
        need = ", required" if each["required"] else ""
        usual = "" if each["default"] is None else f"; {output.json_text(each['default'])} when absent"
        later = "" if each["available"] else " Not available yet."
        print(f"\n{each['name']}: {each['must_be']}{need}{usual}")
        print(f"  {each['meaning']}{later}")
        print(f"  example: {output.json_text({each['name']: each['example']})[1:-1]}")


def _short(requirement: str) -> str:
    """Without the marker that says on which machines."""
    return requirement.partition(";")[0].strip()
