"""The Typer tree of `coord`, and the one place where a refusal becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fogline.coordinator.cli import (
    daemon,
    data,
    deployments,
    documents,
    exporting,
    history,
    letters,
    logs,
    nodes,
    packaging,
    planning,
    plugins,
    predicting,
    starter,
)
from fogline.coordinator.cli.output import say
from fogline.wire.errors import exit_code
from fogline.wire.terms import FoglineError


class _Coord(TyperGroup):
    """`coord --help` with its commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Every heading of `_COMMANDS` with what stands below it."""
        width = max(map(len, self.commands))
        for heading, commands in _COMMANDS.items():
            with formatter.section(heading):
                limit = formatter.width - 6 - width
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(limit)) for name in commands]
                )


app = typer.Typer(
    name="coord",
    cls=_Coord,
    help=(
        "Run analytic pipelines written in PADL across edge, fog and cloud machines.\n\n"
        "Each command explains itself: coord COMMAND --help. A first look: coord demo."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Documents, without any daemon": {
        "new": starter.new,
        "validate": documents.validate,
        "test": documents.trial,
        "run": daemon.run,
        "package": packaging.package,
        "export": exporting.export,
        "schema": documents.print_schema,
        "frameworks": plugins.frameworks,
        "connectors": plugins.connectors,
        "demo": daemon.demo,
    },
    "The coordinator and its nodes": {
        "serve": daemon.serve,
        "nodes": nodes.nodes,
    },
    "Bringing a pipeline out": {
        "plan": planning.plan,
        "diff": history.diff,
        "submit": deployments.submit,
        "stop": deployments.stop,
        "start": deployments.start,
        "restart": deployments.restart,
        "delete": deployments.delete,
    },
    "Looking at what runs": {
        "list": deployments.list_,
        "status": deployments.status,
        "logs": logs.logs,
        "events": history.events,
        "history": history.history,
        "get": history.get,
    },
    "Records": {
        "send": data.send,
        "tap": data.tap,
        "predict": predicting.predict,
        "dead-letters": letters.dead_letters,
    },
    "Itself": {
        "version": daemon.version,
    },
}
for _section in _COMMANDS.values():
    for _name, _command in _section.items():
        app.command(_name)(_command)


@app.callback()
def _before(
    version: Annotated[bool, typer.Option("--version", help="Print release and protocol.", is_eager=True)] = False,
) -> None:
    if version:
        daemon.version()
        raise typer.Exit


def main() -> None:
    """Entry point of `coord`."""
    try:
        app()
    except FoglineError as error:
        say(f"coord: {error.sentence}")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output left (such as `head`); nothing more to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
