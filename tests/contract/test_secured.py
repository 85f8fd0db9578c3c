"""Transport security and logins, at real brokers; and what is said when either side does not do as the other wishes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes import registry
from fogline.runtimes.connectors.base import Sink, Source
from fogline.runtimes.errors import NotConnected
from fogline.runtimes.message import Item
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec, SpecError
from support.certificates import Certificates, issued
from support.kafka import Kafka
from support.mosquitto import Mosquitto, free_port
from support.segments import DEADLINE_S

pytestmark = pytest.mark.broker

MQTT, KAFKA = ("lean", "paho"), ("confluent", "python")
TELLING = (*MQTT, "confluent")
"""kafka-python often has no more to say than that its socket was disconnected."""


class Secured:
    """A mosquitto and a Kafka, each with a port for TLS alone; Kafka's others: plain, and with a login."""

    def __init__(self, folder: Path) -> None:
        self.certificates = issued(folder / "pem")
        self.plain = Mosquitto(folder / "plain")
        files = (f"certfile {self.certificates.server_cert}", f"keyfile {self.certificates.server_key}")
        self.mosquitto = Mosquitto(folder / "mosquitto", extra=files)
        self.mutual = Mosquitto(
            folder / "mutual",
            extra=(
                *files,
                f"cafile {self.certificates.ca}",
                "require_certificate true",
            ),
        )
        self.kafka_tls, self.kafka_login = free_port(), free_port()
        self.kafka = Kafka(folder / "kafka", extra=self._listeners())

    def brokers(self) -> tuple[Any, ...]:
        return self.plain, self.mosquitto, self.mutual, self.kafka

    def _listeners(self) -> tuple[str, ...]:
        port, controller = free_port(), free_port()
        names = f"PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{self.kafka_tls},LOGIN://127.0.0.1:{self.kafka_login}"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        self._port = port
        return (
            f"listeners={names},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners={names}",
            f"controller.quorum.voters=1@127.0.0.1:{controller}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,LOGIN:SASL_PLAINTEXT",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self.certificates.server_both}",
            "sasl.enabled.mechanisms=PLAIN",
            f'listener.name.login.plain.sasl.jaas.config={module} required user_edge="right";',
        )

    def start(self) -> None:
        self.kafka.port = self._port
        for broker in self.brokers():
            broker.start()

    def stop(self) -> None:
        for broker in self.brokers():
            broker.stop()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("secured"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def options(client: str, port: int, **more: Any) -> dict[str, Any]:
    return {"server": "127.0.0.1", "port": port, "topic": f"t.{client}.{port}", "client": client, **more}


def ends(poller: Poller, given: dict[str, Any]) -> tuple[Source, Sink]:
    name = "mqtt" if given["client"] in MQTT else "kafka"
    group = f"r.{given['client']}.{given['port']}"
    reader = EndpointSpec("q", "reader", name, given, f"{group}.0", group=group)
    writer = EndpointSpec("q", "writer", name, given, f"{group}.w")
    connector = registry.connector(reader)
    return connector.source(reader, poller, 8), connector.sink(writer, poller)


def passes(given: dict[str, Any]) -> None:
    """A record goes through; it is larger than a record of TLS."""
    poller = Poller()
    source, sink = ends(poller, given)
    try:
        source.open()
        source.bind()
        sink.open()
        payload = b'"' + b"x" * 100_000 + b'"'
        receipt, got = sink.send([Item(0, "id", payload)]), list[bytes]()
        deadline = time.monotonic() + DEADLINE_S
        while (not got or not receipt.done) and time.monotonic() < deadline:
            got += [message.payload for message in source.take(8, 0.1)]
        assert got == [payload]
        assert receipt.done
    finally:
        source.close()
        sink.close()
        poller.close()


def refusal(given: dict[str, Any]) -> str:
    """What `check` says."""
    name = "mqtt" if given["client"] in MQTT else "kafka"
    end = EndpointSpec("q", "s", name, given, "checked")
    with pytest.raises(NotConnected) as caught:
        registry.connector(end).check(end)
    return caught.value.reason


def tls_port(secured: Secured, client: str) -> int:
    return secured.mosquitto.port if client in MQTT else secured.kafka_tls


def plain_port(secured: Secured, client: str) -> int:
    return secured.plain.port if client in MQTT else secured.kafka.port


def ca(certificates: Certificates) -> dict[str, Any]:
    return {"ca": str(certificates.ca)}


@pytest.mark.parametrize("client", [*MQTT, *KAFKA])
def test_records_pass_over_tls(secured: Secured, client: str) -> None:
    passes(options(client, tls_port(secured, client), tls=ca(secured.certificates)))


@pytest.mark.parametrize("client", MQTT)
def test_a_client_shows_its_certificate(secured: Secured, client: str) -> None:
    files = secured.certificates
    shown = {"cert": str(files.client_cert), "key": str(files.client_key)}
    passes(options(client, secured.mutual.port, tls=ca(files) | shown))


@pytest.mark.parametrize("client", TELLING)
def test_a_broker_of_an_unknown_authority_is_refused(secured: Secured, client: str) -> None:
    words = refusal(options(client, tls_port(secured, client), tls={}))
    assert f"127.0.0.1:{tls_port(secured, client)}" in words
    assert "certificate" in words.lower(), words


@pytest.mark.parametrize("client", TELLING)
def test_tls_to_a_plain_port_is_told(secured: Secured, client: str) -> None:
    words = refusal(options(client, plain_port(secured, client), tls=ca(secured.certificates)))
    assert f"127.0.0.1:{plain_port(secured, client)}" in words
    assert "tls" in words.lower() or "ssl" in words.lower(), words


@pytest.mark.parametrize("client", TELLING)
def test_a_plain_connection_to_a_port_of_tls_is_told(secured: Secured, client: str) -> None:
    words = refusal(options(client, tls_port(secured, client)))
    assert f"127.0.0.1:{tls_port(secured, client)}" in words


@pytest.mark.parametrize("client", KAFKA)
def test_a_login_at_kafka(secured: Secured, client: str) -> None:
    passes(options(client, secured.kafka_login, username="edge", password="right"))


def test_a_wrong_password_at_kafka_is_told(secured: Secured) -> None:
    words = refusal(options("confluent", secured.kafka_login, username="edge", password="wrong"))
    assert "authentication" in words.lower(), words


def test_a_file_that_is_not_there_is_named() -> None:
    end = EndpointSpec("q", "s", "mqtt", options("lean", 1, tls={"ca": "/nowhere/ca.pem"}), "checked")
    with pytest.raises(SpecError, match=r"queue q: props.tls.ca: there is no file /nowhere/ca.pem on this node"):
        registry.connector(end).check(end)
