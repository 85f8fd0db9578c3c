"""What both ends of an MQTT queue share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fogline.runtimes import options
from fogline.runtimes.connectors.mqtt_link import Link, MakeClient
from fogline.runtimes.errors import StageUnusable
from fogline.runtimes.mqtt.connection import Connection, Peer
from fogline.runtimes.mqtt.decoder import Publish
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec


class MqttEnd:
    """A link, and what it says about itself."""

    def __init__(self, endpoint: EndpointSpec, poller: Poller, peer: Peer) -> None:
        self.endpoint = endpoint
        self._poller = poller
        self._topic: str = options_of(endpoint)["topic"]
        self._link = Link(peer, poller, self, _client_of(endpoint))

    @property
    def connected(self) -> bool:
        return self._link.up

    @property
    def error(self) -> str:
        return self._link.error

    @property
    def failure(self) -> Any:
        return self._link.failure

    def open(self) -> None:
        self._link.open()

    def close(self) -> None:
        self._link.close()

    def on_up(self, receive_maximum: int) -> None: ...
    def on_down(self) -> None: ...
    def on_publish(self, publish: Publish) -> None: ...
    def on_puback(self, mid: int, reason: int) -> None: ...
    def on_subscribed(self, mid: int, refusal: str) -> None: ...
    def on_unsubscribed(self, mid: int) -> None: ...
    def after_read(self) -> None: ...


def _client_of(endpoint: EndpointSpec) -> MakeClient:
    if endpoint.options.get("client") == "paho":
        try:
            from fogline.runtimes.connectors.mqtt_paho import PahoConnection
        except ImportError as error:
            words = f"client paho of queue {endpoint.queue} needs {error.name}, which is not installed here"
            raise StageUnusable(endpoint.stage, words) from None
        return PahoConnection
    return Connection


def options_of(endpoint: EndpointSpec) -> Mapping[str, Any]:
    """As given, completed by the defaults."""
    return options.defaults(options.CONNECTORS["mqtt"], endpoint.options)
