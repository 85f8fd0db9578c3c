"""`coord run`: one document on this machine, no daemon."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.deployments import submit_ready
from fogline.coordinator.cli.documents import Ready, read
from fogline.coordinator.cli.output import Output, say
from fogline.coordinator.local.broker import start_broker
from fogline.coordinator.local.children import answers
from fogline.coordinator.local.cluster import Interrupted, LocalCluster, local_cluster
from fogline.coordinator.padl.model import Document

NODE = "here"
INTERRUPTED = 0
"""Ctrl-C is how a run ends."""


def run_here(files: Sequence[Path], settings: Sequence[str] | None = None) -> int:
    """Run the documents until interrupted; returns the exit code."""
    ready = read(files, settings, extra={"deploy-mode": "local"})
    if ready.document.deploy_mode != "local" or ready.document.infra:
        say("every machine of this document is this one")
    try:
        with local_cluster() as cluster:
            _start_brokers(cluster, ready.document)
            cluster.start_agent(NODE, "edge")
            cluster.wait_for_nodes(1)
            return _until_interrupted(cluster, ready)
    except Interrupted:
        return INTERRUPTED


def _until_interrupted(cluster: LocalCluster, ready: Ready) -> int:
    with connect(cluster.address) as stub:
        code = submit_ready(stub, ready, detach=False, output_=Output.TABLE)
    if code:
        return code
    say(f"running; in another terminal: coord status {ready.document.id} --coordinator {cluster.address}")
    say("Ctrl-C ends it")
    while True:
        signal.pause()


def _start_brokers(cluster: LocalCluster, document: Document) -> None:
    """Start a broker where a queue names this machine and nothing answers, on exactly that port."""
    own_names = {"localhost", "127.0.0.1", "::1", socket.gethostname()}
    wanted = {
        int(queue.props.get("port", 1883))
        for queue in document.queues.values()
        if queue.connector == "mqtt" and queue.props.get("server") in own_names
    }
    for port in sorted(wanted):
        if not answers("127.0.0.1", port):
            say(start_broker(cluster.children, cluster.folder / f"broker-{port}", port))
