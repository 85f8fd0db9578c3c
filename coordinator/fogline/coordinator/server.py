"""Composition root of the coordinator: build, start in order, stop in reverse; no logic."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from fogline.coordinator.artifacts.store import ArtifactStore
from fogline.coordinator.config import CoordinatorConfig, cluster_id
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.service.agents import AgentService
from fogline.coordinator.service.deployments import Deployments
from fogline.coordinator.service.fleet import Fleet
from fogline.coordinator.service.operators import OperatorService
from fogline.coordinator.store.sql import Store
from fogline.v1 import agent_coordinator_pb2_grpc as agent_grpc
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.channel import SERVER_OPTIONS, split_address
from fogline.wire.terms import ErrorKind, FoglineError

log = logging.getLogger(__name__)

STOP_GRACE_S = 1.0
_PR_SET_PDEATHSIG = 1


async def serve(config: CoordinatorConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises FoglineError when it cannot start.

    Stopping the coordinator stops nothing it coordinates.
    """
    _make(config.state_dir)
    with _locked(config.state_dir):
        identity = cluster_id(config)
        store = Store(f"sqlite:///{config.state_dir / 'state.db'}")
        try:
            await _serve(config, identity, store)
        finally:
            store.close()


async def _serve(config: CoordinatorConfig, identity: str, store: Store) -> None:
    fleet = Fleet(store)
    deployments = Deployments(store, fleet, identity, Wiring(config.cluster or identity[:8], config.broker))
    artifacts = ArtifactStore(config.state_dir / "artifacts")
    server = grpc.aio.server(options=SERVER_OPTIONS)
    agents = AgentService(fleet, deployments, artifacts, identity)
    operators = OperatorService(store, fleet, deployments, artifacts, identity)
    agent_grpc.add_AgentCoordinatorServicer_to_server(agents, server)
    operator_grpc.add_OperatorCoordinatorServicer_to_server(operators, server)
    stop = _stop_signal(config.tied)
    _listen(server, config.listen)
    await server.start()
    running = {asyncio.create_task(deployments.run()), asyncio.create_task(operators.purging.run())}
    waiting = asyncio.create_task(stop.wait())
    log.info("coordinator of cluster %s listens on %s", identity[:8], config.listen)
    try:
        done, _ = await asyncio.wait({*running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in done & running:
            task.result()
    finally:
        for task in (*running, waiting):
            task.cancel()
        fleet.close()
        await server.stop(STOP_GRACE_S)
        log.info("coordinator stopped; what runs on the nodes goes on")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        sentence = f"cannot use {folder} as --state-dir: {error.strerror}"
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One coordinator per state directory."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FoglineError(ErrorKind.CONFLICT, f"another coordinator uses {folder} already") from None
        yield


def _listen(server: grpc.aio.Server, address: str) -> None:
    """Bind, with a sentence for the usual reason why not (gRPC's own names none)."""
    host, port = split_address(address)
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        sentence = (
            f"cannot listen on {address}: {os.strerror(error.errno or 0)}; choose another with --listen HOST:PORT"
        )
        raise FoglineError(ErrorKind.ADDRESS_IN_USE, sentence) from error
    server.add_insecure_port(address)


def _stop_signal(tied: bool) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if tied:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return stop
