"""The Typer tree of `coord`, and the one place where a refusal becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from fogline.coordinator.cli import daemon, data, deployments, documents, history, letters, logs, nodes
from fogline.coordinator.cli.output import say
from fogline.wire.errors import exit_code
from fogline.wire.terms import FoglineError

app = typer.Typer(
    name="coord",
    help="Run analytic pipelines written in PADL across edge, fog and cloud machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "serve": daemon.serve,
    "nodes": nodes.nodes,
    "validate": documents.validate,
    "plan": documents.plan,
    "submit": deployments.submit,
    "diff": history.diff,
    "list": deployments.list_,
    "status": deployments.status,
    "logs": logs.logs,
    "events": history.events,
    "history": history.history,
    "get": history.get,
    "send": data.send,
    "tap": data.tap,
    "dead-letters": letters.dead_letters,
    "start": deployments.start,
    "restart": deployments.restart,
    "stop": deployments.stop,
    "delete": deployments.delete,
    "test": documents.trial,
    "run": daemon.run,
    "schema": documents.print_schema,
    "demo": daemon.demo,
    "version": daemon.version,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


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
