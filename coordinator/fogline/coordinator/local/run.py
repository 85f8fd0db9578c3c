"""`coord run`: one document on this machine, no daemon, until Ctrl-C or the end of its input."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from fogline.coordinator.cli.client import CALL_S, connect
from fogline.coordinator.cli.deployments import Submitting, submit_ready
from fogline.coordinator.cli.documents import Ready, apart_from_coord, read
from fogline.coordinator.cli.following import FAILED, show_status
from fogline.coordinator.cli.output import Output, say
from fogline.coordinator.core.fleet import OWN, STORE
from fogline.coordinator.core.needs import segment_needs
from fogline.coordinator.local.broker import start_broker
from fogline.coordinator.local.children import answers
from fogline.coordinator.local.cluster import Interrupted, LocalCluster, local_cluster
from fogline.coordinator.padl.files import FILE
from fogline.coordinator.padl.model import Document
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc

NODE = "here"
FINISHED = "finished"
LOOK_S = 0.3
SHOWN_LETTERS = 5
INTERRUPTED = 0
"""Ctrl-C is how a run ends."""


def run_here(files: Sequence[Path], settings: Sequence[str] | None = None, *, upgrade: bool = False) -> int:
    """Run the documents until interrupted, or until all input is at its end; returns the exit code.

    `upgrade`: resolve packages anew instead of taking what this machine resolved before.
    """
    ready = read(files, settings, here=True)
    if ready.document.deploy_mode != "local" or ready.document.infra:
        say("every machine of this document is this one")
    document = ready.document
    needs = segment_needs(document, list(document.pipeline), ready.resolved.requirements, {})
    contained = any(map(document.contains, document.pipeline.values()))
    try:
        with local_cluster() as cluster:
            _start_brokers(cluster, ready.document)
            cluster.start_agent(NODE, "edge", STORE if contained or apart_from_coord(needs) else OWN)
            cluster.wait_for_nodes(1)
            return _until_finished(cluster, ready, upgrade=upgrade)
    except Interrupted:
        return INTERRUPTED


def _until_finished(cluster: LocalCluster, ready: Ready, *, upgrade: bool) -> int:
    id_ = ready.document.id
    with connect(cluster.address) as stub:
        code = submit_ready(stub, ready, Submitting(upgrade=upgrade, again=True), output_=Output.TABLE)
        if code:
            return code
        request = operator.StatusRequest(id=id_)
        found = stub.Status(request, timeout=CALL_S)
        if found.state != FINISHED:
            say(f"running; in another terminal: coord status {id_} --coordinator {cluster.address}")
            say("Ctrl-C ends it")
        while not any(queue.connector == FILE for queue in ready.document.queues.values()):
            signal.pause()
        while found.state != FINISHED:
            time.sleep(LOOK_S)
            found = stub.Status(request, timeout=CALL_S)
        show_status(found)
        dead = sum(stage.observed.counters.get("dead_lettered", 0) for stage in found.stages)
        return _dead_letters_told(stub, id_) if dead else 0


def _dead_letters_told(stub: operator_grpc.OperatorCoordinatorStub, id_: str) -> int:
    """They are gone with this run, so they are shown now; the exit code says that there were some."""
    replies = stub.DeadLetters(operator.DeadLettersRequest(id=id_, action="list", limit=SHOWN_LETTERS))
    for line in b"".join(reply.data for reply in replies).splitlines():
        letter = json.loads(line)
        say(f"dead letter {letter['id']}: {letter['reason']}")
    say(f"(the newest {SHOWN_LETTERS} at most; a run keeps none)")
    return FAILED


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
