"""`python -m fogline.runtimes`: what the agent, and the submitter's own machine, can ask of a spec."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from fogline.runtimes.assembly import read_spec
from fogline.runtimes.check import check
from fogline.runtimes.dead_letters import ACTIONS, dead_letters
from fogline.runtimes.host import Places, run
from fogline.runtimes.lines import answers_only
from fogline.runtimes.logs import log, set_up
from fogline.runtimes.publish import publish
from fogline.runtimes.release import release
from fogline.runtimes.spec import POSITIONS_VARIABLE, Exit, SpecError
from fogline.runtimes.trial import trial

DEAD_LETTERS = "dead-letters.db"


def main() -> int:
    """Parse the command line and do as told; the exit codes are those of `spec.Exit`."""
    arguments = _parser().parse_args()
    set_up()
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        if "spec" in arguments:
            os.environ.setdefault(POSITIONS_VARIABLE, str(arguments.spec.absolute().parent / "positions"))
        return command(arguments)
    except SpecError as error:
        log.error("%s", error)
        return Exit.BAD_SPEC


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fogline.runtimes")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_: str, action: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=help_)
        one.add_argument("spec", type=Path, metavar="SPEC")
        one.set_defaults(command=action)
        return one

    one = command("run", "run the segment until it is drained", _run)
    one.add_argument("--workspace", type=Path, required=True)
    one.add_argument("--artifacts", type=Path, required=True)
    one.add_argument("--dead-letters", type=Path, metavar="FILE", help=f"default: {DEAD_LETTERS} in the workspace")
    one.add_argument("--bind", action="store_true", help="subscribe at once, without being told")
    one = command("check", "load every stage and reach every broker", _check)
    one.add_argument("--artifacts", type=Path, required=True)
    one = command("publish", "publish JSON lines to a queue", _publish)
    one.add_argument("--queue", required=True)
    one = command("test", "run records through all stages, without a broker; JSON lines from standard input", _test)
    one.add_argument("--artifacts", type=Path, default=Path())
    one.add_argument("--input", type=Path, metavar="FILE", help="instead: the csv rows or JSON lines of this file")
    one.add_argument("--own-files", action="store_true", help="instead: what the files of its own queues hold")
    one = commands.add_parser("dead-letters", help="list, show or delete the dead letters in a file")
    one.add_argument("file", type=Path, metavar="FILE")
    one.add_argument("action", choices=ACTIONS)
    one.add_argument("numbers", type=int, nargs="*", metavar="N", help="show, discard: these; default: all")
    one.add_argument("--limit", type=int, default=0, help="list: the newest so many")
    one.set_defaults(command=_dead_letters)
    one = command("release", "end the readers' sessions at their brokers", _release)
    one.add_argument("--reader", action="append", default=[], metavar="CLIENT_ID", help="this one alone; repeatable")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    dead_letters = arguments.dead_letters or arguments.workspace / DEAD_LETTERS
    return run(arguments.spec, Places(arguments.workspace, arguments.artifacts, dead_letters), bind=arguments.bind)


def _check(arguments: argparse.Namespace) -> int:
    with answers_only() as out:
        return check(arguments.spec, arguments.artifacts, out)


def _publish(arguments: argparse.Namespace) -> int:
    with answers_only() as out:
        return publish(read_spec(arguments.spec), arguments.queue, sys.stdin.fileno(), out)


def _test(arguments: argparse.Namespace) -> int:
    with answers_only() as out:
        given = arguments.input or (None if arguments.own_files else sys.stdin.fileno())
        return trial(read_spec(arguments.spec), arguments.artifacts, given, out)


def _dead_letters(arguments: argparse.Namespace) -> int:
    with answers_only() as out:
        return dead_letters(arguments, out)


def _release(arguments: argparse.Namespace) -> int:
    """Every reader, even when one broker is away; the first that was away decides the exit code.

    One JSON line for each reader that had not read everything: `{"queue", "reader", "left"}`.
    """
    with answers_only() as out:
        return release(read_spec(arguments.spec), arguments.reader, out)


if __name__ == "__main__":
    sys.exit(main())
