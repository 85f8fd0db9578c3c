"""`fogline-agent`: run the agent of this node, or move the node to another cluster."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fogline.agent.config import ENVIRONMENTS, LAYERS, REFUSABLE, Config, parse_labels, parse_ports, parse_size
from fogline.wire.terms import FoglineError

_ABOUT = "Runs on a node what a coordinator asks for. Each command explains itself: fogline-agent COMMAND --help."
_RUN_EXAMPLE = """\
example:
  fogline-agent run --coordinator 127.0.0.1:7700 --name gateway-1 --layer edge \\
      --label site=north --state-dir /var/lib/fogline-agent

SIGTERM and Ctrl-C end the agent and leave the stages running; the next agent finds them again."""

_ADOPT_EXAMPLE = """\
example:
  fogline-agent adopt --state-dir /var/lib/fogline-agent

The running agent obeys within a second, a stopped one when it is started. What runs goes on."""

_PRUNE_EXAMPLE = """\
example:
  fogline-agent prune --state-dir /var/lib/fogline-agent --dry-run

Removes environments, runtimes, artifacts and unpacked wheels that no assignment of this node needs. A running
agent does it itself."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point. A refusal is one sentence on stderr and the catalogue's exit code."""
    given = _parser().parse_args(arguments)
    try:
        given.command(given)
    except FoglineError as error:
        from fogline.wire.errors import exit_code

        print(f"fogline-agent: {error.sentence}", file=sys.stderr)
        sys.exit(exit_code(error))


def _run(given: argparse.Namespace) -> None:
    config = Config(
        coordinator=given.coordinator,
        name=given.name,
        layer=given.layer,
        labels=parse_labels(given.label),
        state_dir=Path(given.state_dir).absolute(),
        address=given.address,
        insecure=given.insecure,
        environments=given.environments,
        refuses=tuple(given.refuse),
        ports=parse_ports(given.ports),
        artifact_cap_bytes=parse_size(given.artifact_cap),
        tied=given.tied,
    )
    config.validate()
    from fogline.agent import daemon  # gRPC: not for a wrong argument, nor for --help

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if config.tied:
        daemon.tie_to_parent()
    asyncio.run(daemon.run(config))


def _adopt(given: argparse.Namespace) -> None:
    from fogline.agent import daemon

    daemon.mark_adoption(Path(given.state_dir).absolute())
    print("this node will accept the next cluster that welcomes it")


def _prune(given: argparse.Namespace) -> None:
    from fogline.agent import daemon
    from fogline.agent.pruning import mb

    removed = daemon.prune(Path(given.state_dir).absolute(), dry_run=given.dry_run)
    for each in removed:
        print(f"{each.kind:<12} {each.name[:16]:<16} {mb(each.freed_bytes):>12}")
    freed_bytes = sum(each.freed_bytes for each in removed)
    print(f"{'would free' if given.dry_run else 'freed'} {mb(freed_bytes)}")


class _Parser(argparse.ArgumentParser):
    """Says what was probably meant by a wrong word, and where the help is."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        known = [*self._option_string_actions, *self._commands()]
        words = [word.partition("=")[0] for word in self._given if word not in known]
        wrong = [word for word in words if word.startswith("--") and not any(each.startswith(word) for each in known)]
        if self._commands() and not self._given:
            self.print_help(sys.stderr)
            self.exit(2, f"\n{self.prog}: name a command: {', '.join(self._commands())}\n")
        for word in wrong or words[:1]:
            close = difflib.get_close_matches(word, known, n=1)
            message = f"there is no option {word}" if word in wrong else message
            message += f"; did you mean {close[0]}?" if close else ""
            break
        self.exit(2, f"{self.prog}: {message}\nTry '{self.prog} -h' for help.\n")

    def _commands(self) -> list[str]:
        groups = [each for each in self._actions if isinstance(each, argparse._SubParsersAction)]
        return [name for each in groups for name in each.choices]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fogline-agent", description=_ABOUT)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shape = argparse.RawDescriptionHelpFormatter
    run = commands.add_parser("run", help="run the agent", epilog=_RUN_EXAMPLE, formatter_class=shape)
    run.add_argument("--coordinator", required=True, metavar="HOST:PORT", help="the coordinator to dial")
    run.add_argument("--name", required=True, help="what this node is called in the cluster")
    run.add_argument("--layer", required=True, help=f"where it stands: {', '.join(LAYERS)}")
    run.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="for placement; may be repeated")
    run.add_argument("--state-dir", required=True, metavar="DIR", help="where the agent keeps everything")
    run.add_argument("--address", default="", help="where other nodes reach this one (default: found out)")
    run.add_argument("--insecure", action="store_true", help="accept a connection without TLS off loopback")
    run.add_argument(
        "--environments",
        choices=ENVIRONMENTS,
        default="store",
        help="where a stage's packages come from: the coordinator's store (default), an index that this node reaches, "
        "or nowhere, since stages run in the agent's own environment",
    )
    run.add_argument(
        "--refuse", action="append", default=[], choices=REFUSABLE, help="models that must not be loaded here"
    )
    run.add_argument(
        "--artifact-cap", default="4GiB", metavar="SIZE", help="how much the artifact cache may hold (default: 4GiB)"
    )
    run.add_argument(
        "--ports",
        default="31000-31999",
        metavar="FIRST-LAST",
        help="where pipelines in API mode may listen (default: 31000-31999)",
    )
    run.add_argument("--tied", action="store_true", help=argparse.SUPPRESS)
    run.set_defaults(command=_run)
    adopt = commands.add_parser("adopt", help="accept another cluster", epilog=_ADOPT_EXAMPLE, formatter_class=shape)
    adopt.add_argument("--state-dir", required=True, metavar="DIR", help="of the node's agent")
    adopt.set_defaults(command=_adopt)
    prune = commands.add_parser("prune", help="free disk", epilog=_PRUNE_EXAMPLE, formatter_class=shape)
    prune.add_argument("--state-dir", required=True, metavar="DIR", help="of the node's agent")
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune.set_defaults(command=_prune)
    return parser


if __name__ == "__main__":
    main()
