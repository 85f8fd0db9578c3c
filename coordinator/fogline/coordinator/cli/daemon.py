"""Commands that stay: serve, run, demo. Also: version."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

from fogline.coordinator.cli.options import DEFAULT_ADDRESS, FilesArgument, InsecureOption, SetOption, UpgradeOption
from fogline.coordinator.config import CoordinatorConfig
from fogline.wire.version import PROTOCOL, release


def serve(  # noqa: PLR0913  # one for each option
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where agents and `coord` reach it.")
    ] = DEFAULT_ADDRESS,
    state_dir: Annotated[Path, typer.Option(metavar="DIR", help="Store, artifacts and the cluster's identity.")] = Path(
        "fogline-coordinator"
    ),
    cluster: Annotated[
        str, typer.Option(metavar="NAME", help="Name in broker sessions; without it 8 digits of the cluster id.")
    ] = "",
    cluster_id: Annotated[str, typer.Option(metavar="HEX", help="Take on this identity (rebuilding a lost one).")] = "",
    default_broker: Annotated[
        str,
        typer.Option(
            metavar="mqtt://HOST:PORT",
            help="Broker of the queues between neighbours on different nodes; without it that of the first MQTT queue.",
        ),
    ] = "",
    insecure: InsecureOption = False,
    tied: Annotated[bool, typer.Option("--tied", hidden=True)] = False,
) -> None:
    """Run the coordinator.

    Until SIGTERM or Ctrl-C; what it coordinates goes on without it.

    Example: coord serve --listen 127.0.0.1:7700 --state-dir /var/lib/fogline
    """
    from fogline.coordinator.server import serve as serve_forever  # the store's library: not for every command

    config = CoordinatorConfig(
        listen, state_dir.absolute(), cluster, cluster_id, insecure, default_broker=default_broker, tied=tied
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve_forever(config))


def run(files: FilesArgument, settings: SetOption = None, upgrade: UpgradeOption = False) -> None:
    """Run a pipeline here, without any daemon.

    Until Ctrl-C or SIGTERM, or until the end of its input where that is files: then it shows what was counted, and
    ends with 5 if there were dead letters. Every machine it names is this one; a broker is started only where a queue
    names this machine and nothing answers there. Where it needs packages that are not installed beside coord, it
    runs in environments of its own.

    Example: coord run pipeline.json
    """
    from fogline.coordinator.local.run import run_here

    raise typer.Exit(run_here(files, settings, upgrade=upgrade))


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """Show the whole path on this machine.

    Three nodes watch this machine's own telemetry and report a real disturbance.

    Example: coord demo
    """
    from fogline.coordinator.demo.demo import run_demo

    raise typer.Exit(run_demo(keep=keep))


def version() -> None:
    """Print release and protocol.

    Example: coord version
    """
    print(f"fogline {release()} (protocol {PROTOCOL})")
