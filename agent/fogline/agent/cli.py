"""`fogline-agent`: run the agent of this node, or move the node to another cluster."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from fogline.agent.config import LAYERS, Config, parse_labels
from fogline.wire.terms import FoglineError

_RUN_EXAMPLE = """\
example:
  fogline-agent run --coordinator 127.0.0.1:7700 --name gateway-1 --layer edge \\
      --label site=north --state-dir /var/lib/fogline-agent

SIGTERM and Ctrl-C end the agent and leave the stages running; the next agent finds them again."""

_ADOPT_EXAMPLE = """\
example:
  fogline-agent adopt --state-dir /var/lib/fogline-agent

The running agent obeys within a second, a stopped one when it is started. What runs goes on."""


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fogline-agent", description=__doc__)
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
    run.add_argument("--tied", action="store_true", help=argparse.SUPPRESS)
    run.set_defaults(command=_run)
    adopt = commands.add_parser("adopt", help="accept another cluster", epilog=_ADOPT_EXAMPLE, formatter_class=shape)
    adopt.add_argument("--state-dir", required=True, metavar="DIR", help="of the node's agent")
    adopt.set_defaults(command=_adopt)
    return parser


if __name__ == "__main__":
    main()
