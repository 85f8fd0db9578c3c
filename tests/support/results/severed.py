"""A fleet with one node behind a link that can be cut, and brokers that are reached from both sides of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.cluster import BIN, Cluster, cluster, write_json
from support.kafka import Kafka
from support.link import Link, missing
from support.mosquitto import QUIET, Mosquitto, free_port
from support.results import pipelines

Brokers = dict[str, Mosquitto | Kafka]

NODE, STAGE = "cloud_1", "b"
"""The node behind the link, and the stage of `three_stages` that it runs."""


@contextmanager
def node(folder: Path, *names: str) -> Iterator[tuple[Link, Brokers, Cluster]]:
    """Agents of these names, NODE among them: it and its stages have no other network than the link."""
    if what := missing():
        raise RuntimeError(f"a link that can be cut needs {what}")
    with Link() as link:
        port = free_port()
        extra = (f"listener {port} {link.here}", *QUIET)
        inside = link.inside(str(BIN / "fogline-agent"))
        with (
            Mosquitto(folder / "broker", port=port, extra=extra) as broker,
            Kafka(folder / "kafka", host=link.here) as kafka,
            cluster(folder / "cluster", *names, host=link.here, programs={NODE: inside}) as fleet,
        ):
            yield link, {"broker": broker, "kafka": kafka}, fleet


def mixed(folder: Path, brokers: Brokers, server: str) -> Path:
    """Three stages over two queues of MQTT and two of Kafka, the brokers at an address that all nodes reach."""
    path = pipelines.mixed(folder, brokers["broker"].port, brokers["kafka"].port)
    document = json.loads(path.read_text())
    for queue in document["queues"].values():
        queue["props"]["server"] = server
    return write_json(path, document)
