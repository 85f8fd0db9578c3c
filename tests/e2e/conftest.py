"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import LAYERS, Cluster, cluster
from support.kafka import Kafka
from support.mosquitto import QUIET, Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto of this test's own."""
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def quiet_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """The same, for many records: it logs no packets."""
    with Mosquitto(tmp_path / "broker", extra=QUIET) as running:
        yield running


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka of this test's own, to be stopped and killed."""
    with Kafka(tmp_path / "kafka") as running:
        yield running


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Cluster]:
    """A coordinator and the agents edge_node, cloud_1 and cloud_2."""
    with cluster(tmp_path / "cluster", *LAYERS) as running:
        yield running


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[Cluster]:
    """A coordinator and the agent edge_node."""
    with cluster(tmp_path / "cluster", "edge_node") as running:
        yield running


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A coordinator and one agent for tests that leave nothing deployed."""
    with cluster(tmp_path_factory.mktemp("shared") / "cluster", "edge_node") as running:
        yield running
