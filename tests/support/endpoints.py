"""Callers of pipelines in API mode, and documents of such."""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.following import status_json
from fogline.v1 import operator_coordinator_pb2 as operator
from support.cluster import WAIT_S, Cluster, write_code

HOST = "127.0.0.1"


def free_range(count: int) -> tuple[int, int]:
    """First and last of so many neighbouring ports that nobody listens at, away from those the system hands out."""
    while True:
        first = random.randint(20000, 30000)
        if all(is_free(port) for port in range(first, first + count)):
            return first, first + count - 1


def is_free(port: int) -> bool:
    """Whether one could listen there."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def ask(
    url: str, data: Any, *, path: str = "predict", token: str = "", seconds: float = 60.0, ca: Path | None = None
) -> tuple[int, Any]:
    """HTTP status and JSON of a POST, or of a GET where `data` is None; without a body None. `ca`: whom to trust."""
    address = urlsplit(url)
    where = address.hostname or "", address.port
    connection = http.client.HTTPConnection(*where, timeout=seconds)
    if address.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(*where, timeout=seconds, context=context)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = None if data is None else json.dumps(data)
    try:
        connection.request("GET" if body is None else "POST", f"/{path}", body, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, json.loads(content) if content else None


def code(folder: Path, source: str, before: str = "", after: str = "", **more: Any) -> dict[str, Any]:
    """A code stage between two others."""
    write_code(folder, source)
    queues = ({"input": before} if before else {}) | ({"output": after} if after else {})
    props = {"path": str(folder), "entrypoint": "main.py", "function": "handler", **more.pop("props", {})}
    return {"type": "code", "language": "python", "props": props, "queues": queues, **more}


def an_api(id_: str, stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document in API mode."""
    return {"version": "1.0", "id": id_, "package-mode": "api", "pipeline": stages, **more}


def status_of(site: Cluster, id_: str) -> dict[str, Any]:
    """As `coord status` tells it, without a process for it."""
    with connect(site.address) as stub:
        return status_json(stub.Status(operator.StatusRequest(id=id_, fresh=True), timeout=WAIT_S))


def stage_of(site: Cluster, id_: str, name: str) -> dict[str, Any]:
    """One row of it."""
    return next(row for row in status_of(site, id_)["stages"] if row["name"] == name)


def delete_all(site: Cluster) -> None:
    """Nothing is deployed afterwards."""
    with connect(site.address) as stub:
        for each in stub.ListDeployments(operator.ListDeploymentsRequest(), timeout=WAIT_S).deployments:
            stub.Delete(operator.DeleteRequest(id=each.id), timeout=WAIT_S)
